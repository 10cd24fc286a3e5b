"""Checksums of a run's checkpoints: they find damage before training continues from a checkpoint.

Orbax and TensorStore do not notice every changed byte. So a checkpoint's folder has a manifest with
a checksum of each array. It is computed on the devices that hold the array, and does not depend on
how the array is sharded. On a local disk the manifest also has a checksum of each file; a storage
bucket keeps checksums of its files itself.

The checksum of an array is the sum, modulo 2**32, of its words after mixing. The mixing of a word
is one-to-one and depends on the word's position in the array. So a change of one word always
changes the checksum; any other change is missed once in 2**32 cases. The checksums of the parts of
an array add up, in any order, to the checksum of the array.
"""

import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore
from etils import epath
from jaxtyping import Array, Shaped, UInt32

from zoo.types import InputError

MANIFEST = "checksums"
"""The manifest's name in a checkpoint's folder."""


class DamagedError(InputError):
    """A checkpoint whose content differs from what was written."""


class Manifest(NamedTuple):
    """The content of a checkpoint when it was written.

    Attributes:
        arrays: Dtype, shape and checksum of each array by its name, which begins with the item's.
        files: Length and CRC-32 of each file by its path; empty if the files are not local.
    """

    arrays: dict[str, str]
    files: dict[str, tuple[int, int]]


def names(tree: Any) -> list[str]:
    """The names that Orbax gives to a tree's leaves, with slashes, in the order of the leaves."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]


@jax.jit
def array_sums(tree: Any) -> UInt32[Array, " n"]:
    """The checksums of a tree's arrays, in the order of its leaves, computed on their devices."""
    return jnp.stack([_sum(x) for x in jax.tree.leaves(tree)])


def describe(tree: Any, sums: Iterable[Any]) -> dict[str, str]:
    """A manifest's entries for a tree's arrays, given the checksum of each leaf."""
    leaves = jax.tree.leaves(tree)
    return {
        name: f"{leaf.dtype}{list(leaf.shape)} {int(checksum):08x}"
        for name, leaf, checksum in zip(names(tree), leaves, sums, strict=True)
    }


def _sum(x: Shaped[Array, "..."]) -> UInt32[Array, ""]:
    """The checksum of an array."""
    x = x.astype(jnp.uint8) if x.dtype == jnp.bool_ else x
    words = x.view(f"uint{8 * x.dtype.itemsize}").astype(jnp.uint32)
    place, stride = jnp.uint32(0), 1
    for axis in reversed(range(words.ndim)):  # a flattened array would not be sharded
        along = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        place = place + along * jnp.uint32(stride % 2**32)
        stride *= words.shape[axis]
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):  # last mixing of MurmurHash3
        place = (place ^ (place >> shift)) * jnp.uint32(factor)
    odd = (place ^ (place >> 16)) | 1
    mixed = words * odd  # one-to-one, like the steps after it
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x9E3779B1)
    return (mixed ^ (mixed >> 15)).sum(dtype=jnp.uint32)


def sums_on_host(tree: Any) -> list[int]:
    """The checksums of a tree's numpy arrays, computed one at a time."""
    return [int(array_sums([leaf])[0]) for leaf in jax.tree.leaves(tree)]


def write_manifest(step: epath.Path, arrays: Mapping[str, str], *, with_files: bool) -> None:
    """Writes the manifest of a checkpoint; all of its files must exist already."""
    files = {}
    if with_files:
        paths = (Path(folder) / name for folder, _, names in os.walk(step) for name in names)
        files = {str(path.relative_to(step)): _crc(path) for path in sorted(paths)}
    text = json.dumps({"arrays": arrays, "files": files})
    (step / MANIFEST).write_text(f"{zlib.crc32(text.encode()):08x}\n{text}\n")


def read_manifest(step: epath.Path) -> Manifest | None:
    """The manifest of a checkpoint; None if it was written without one.

    Raises:
        DamagedError: If the manifest itself is damaged.
    """
    path = step / MANIFEST
    if not path.exists():
        return None
    data = path.read_bytes()
    checksum, _, text = data.rstrip(b"\n").partition(b"\n")
    if checksum != b"%08x" % zlib.crc32(text) or not data.endswith(b"\n"):
        raise DamagedError(f"{step}: its {MANIFEST} are damaged")
    content = json.loads(text)
    files = {name: (size, crc) for name, (size, crc) in content["files"].items()}
    return Manifest(content["arrays"], files)


def check_files(step: epath.Path, which: Callable[[str], bool] = lambda _: True) -> None:
    """Compares those files of a checkpoint whose paths `which` accepts with its manifest.

    Raises:
        DamagedError: If a file differs from what was written. The message names the damaged arrays
            of the file's item, or the file if no array of the item is damaged.
    """
    manifest = read_manifest(step)
    for name, expected in manifest.files.items() if manifest else ():
        if which(name) and (not (step / name).is_file() or _crc(Path(step / name)) != expected):
            item = name.partition("/")[0]
            damaged = _damaged_arrays(step, item, manifest) if manifest else []
            raise DamagedError(f"{step}: {_first(damaged) if damaged else name} is damaged")


def check_arrays(step: epath.Path, item: str, tree: Any) -> None:
    """Compares the arrays that were read for an item of a checkpoint with its manifest.

    Raises:
        DamagedError: If an array differs from what was written; the message names the arrays.
    """
    if (manifest := read_manifest(step)) is None:
        return
    on_host = all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(tree))
    sums = sums_on_host(tree) if on_host else np.asarray(array_sums(tree))
    found = describe({item: tree}, sums)
    damaged = [name for name, text in found.items() if manifest.arrays.get(name) != text]
    if damaged:
        raise DamagedError(f"{step}: {_first(damaged)} is damaged")


def holds(step: epath.Path, tree: Any) -> bool:
    """Whether a checkpoint was written with arrays of these names, dtypes and shapes."""
    manifest = read_manifest(step)
    expected = describe(tree, [0] * len(jax.tree.leaves(tree)))
    return (
        manifest is not None
        and expected.keys() == manifest.arrays.keys()
        and all(
            text.rpartition(" ")[0] == manifest.arrays[name].rpartition(" ")[0]
            for name, text in expected.items()
        )
    )


def _first(found: list[str], count: int = 3) -> str:
    more = f" (and {len(found) - count} more)" if len(found) > count else ""
    return ", ".join(found[:count]) + more


def _crc(path: Path) -> tuple[int, int]:
    """Length and CRC-32 of a file; for Orbax's metadata of a step without its times."""
    if path.name == "_CHECKPOINT_METADATA":  # Orbax adds the end time later
        text = re.sub(rb'"\w+_nsecs": (\d+|null)', b"", path.read_bytes())
        return len(text), zlib.crc32(text)
    size = crc = 0
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            size, crc = size + len(part), zlib.crc32(part, crc)
    return size, crc


def _damaged_arrays(step: epath.Path, item: str, manifest: Manifest) -> list[str]:
    """The arrays of an item that cannot be read, or whose checksum differs."""
    expected = {k: text for k, text in manifest.arrays.items() if k.startswith(f"{item}/")}

    def found(name: str) -> str | None:
        store = {"driver": "ocdbt", "base": f"file://{step}/{item}/"}
        path = name.removeprefix(f"{item}/").replace("/", ".") + "/"
        try:
            spec = {"driver": "zarr", "kvstore": {**store, "path": path}}
            array = tensorstore.open(spec, open=True).result().read().result()
            return describe({name: array}, sums_on_host(array))[name]
        except Exception:  # any exception of TensorStore
            return None

    return [name for name, text in expected.items() if found(name) != text]
