"""Opening a checkpoint file, or a folder of them, by what is in it and not by its name."""

import dataclasses
import json
import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from zoo.types import InputError
from zoo.weights.run import fields_from_json, fields_to_json, is_orbax, is_run, read_orbax, read_run
from zoo.weights.torch_file import read_torch
from zoo.weights.tree import flatten

SAFETENSORS_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": jnp.dtype(jnp.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "F8_E5M2": jnp.dtype(jnp.float8_e5m2),
    "F8_E4M3": jnp.dtype(jnp.float8_e4m3fn),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
# What a folder from a hub may hold, preferred first.
FOLDER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# The entry of a file's metadata with the model's name, its fields, and whose names the file has.
METADATA = "jax-vision-zoo"
# Wrappers that put the same prefix before every name.
PREFIXES = ("module.", "_orig_mod.")
NPZ_PREFIXES = ("opt/target/", "params/")


class Description(NamedTuple):
    """What a file of ours says of itself: its model's name and fields, and whose names it has."""

    name: str
    fields: dict[str, object]
    source: str | None


Readers = dict[str, Callable[[], np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Checkpoint(Mapping[str, np.ndarray]):
    """Tensors by name, each read when it is asked for, so that one is in memory at a time.

    Attributes:
        path: Where they are.
        format: ``safetensors``, ``npz``, ``torch``, ``orbax`` or ``run``.
        readers: A function for each tensor.
        metadata: Of a safetensors file.
    """

    path: Path
    format: str
    readers: Readers
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def description(self) -> Description | None:
        """What `zoo.save` or a run says of the model; None if another program wrote the file.

        Raises:
            InputError: If it is damaged.
        """
        if METADATA not in self.metadata:
            return None
        try:
            entry = json.loads(self.metadata[METADATA])
            found = Description(
                entry["name"], fields_from_json(entry["fields"]), entry.get("source")
            )
            if not isinstance(found.name, str) or not isinstance(found.source, str | None):
                raise TypeError("a name that is no string")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{self.path}: its metadata {METADATA!r} lacks a model's name and fields: {error!r}"
            ) from error
        return found

    def __getitem__(self, name: str) -> np.ndarray:
        return self.readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.readers)

    def __len__(self) -> int:
        return len(self.readers)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Opens a safetensors, npz or PyTorch file, an index of shards, or a folder with one.

    Raises:
        InputError: If it is not there, is no checkpoint or is cut short; in one line that names it.
    """
    path = Path(path)
    if is_run(path):
        name, fields, variables = read_run(path)
        described = json.dumps({"name": name, "fields": fields_to_json(fields), "source": "zoo"})
        return _in_memory(path, "run", flatten(variables), {METADATA: described})
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        return _open_folder(path)
    if path.name.endswith(".index.json"):
        return _open_index(path)
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{" and not start.startswith(b"PK"):
        readers, metadata = read_safetensors(path)
        return Checkpoint(path, "safetensors", _unwrap(readers, PREFIXES), metadata)
    if zipfile.is_zipfile(path) and _is_npz(path):
        return Checkpoint(path, "npz", _unwrap(_read_npz(path), NPZ_PREFIXES))
    if start.startswith((b"PK", b"\x80")):
        return Checkpoint(path, "torch", _unwrap(read_torch(path), PREFIXES))
    raise InputError(f"{path}: not a checkpoint: neither safetensors, npz nor a PyTorch file")


def read_safetensors(path: Path) -> tuple[Readers, dict[str, str]]:
    """The tensors of a safetensors file, mapped into memory one by one, and its metadata.

    The format: 8 bytes with the header's length, the header as JSON, the numbers.

    Raises:
        InputError: If the header is broken or the file is shorter than it says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if 8 + length > size:
            raise InputError(f"{path}: cut short: {size} bytes, its header alone has {length}")
        try:
            header = json.loads(file.read(length))
            metadata = header.pop("__metadata__", {})
            if not all(isinstance(value, str) for value in metadata.values()):
                raise TypeError("__metadata__ is not of strings")
            tensors = {name: _entry(entry) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path}: not a safetensors header: {error}") from error
    end = 8 + length + max((stop for *_, stop in tensors.values()), default=0)
    if end != size:
        raise InputError(f"{path}: {size} bytes, but its header says {end}: cut short or damaged")

    def reader(dtype: np.dtype, shape: tuple[int, ...], start: int) -> Callable[[], np.ndarray]:
        offset = 8 + length + start
        if 0 in shape:
            return lambda: np.zeros(shape, dtype)
        return lambda: np.memmap(path, dtype, "r", offset, shape)

    readers = {name: reader(*entry[:3]) for name, entry in tensors.items()}
    return readers, metadata


def _entry(entry: dict) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """The dtype, shape, start and end of a tensor in a safetensors header."""
    if entry["dtype"] not in SAFETENSORS_DTYPES:
        raise ValueError(f"dtype {entry['dtype']} is not one of {', '.join(SAFETENSORS_DTYPES)}")
    dtype, shape = SAFETENSORS_DTYPES[entry["dtype"]], tuple(map(int, entry["shape"]))
    start, stop = entry["data_offsets"]
    # The zero of an empty tensor must not hide sizes that no array can have.
    if any(n < 0 for n in shape) or math.prod(n for n in shape if n) >= 2**48 or len(shape) > 32:
        raise ValueError(f"shape {list(shape)} is of no array")
    if start < 0 or stop - start != dtype.itemsize * math.prod(shape):
        raise ValueError(f"{stop - start} bytes for shape {list(shape)}")
    return dtype, shape, start, stop


def _is_npz(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def _read_npz(path: Path) -> Readers:
    archive = np.load(path, allow_pickle=False)

    def read(member: str) -> np.ndarray:
        try:
            array = archive[member]
            if not isinstance(array, np.ndarray):  # numpy hands out the bytes of anything else
                raise TypeError("not in numpy's format")
        except Exception as error:  # whatever zipfile, zlib and numpy raise for a damaged member
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: {member} cannot be read: {reason}") from error
        return array

    members = [name for name in archive.zip.namelist() if name.endswith(".npy")]
    return {member.removesuffix(".npy"): partial(read, member) for member in members}


def _unwrap(readers: Readers, prefixes: tuple[str, ...]) -> Readers:
    """Without the prefix of a wrapper, and without what is beside a wrapped state."""
    for prefix in prefixes:
        inside = {k.removeprefix(prefix): v for k, v in readers.items() if k.startswith(prefix)}
        beside = [k for k in readers if not k.startswith((prefix, "opt/"))]
        readers = inside if inside and not beside else readers
    return readers


def _open_index(path: Path) -> Checkpoint:
    """A Hugging Face index: which shard of the same folder holds which tensor."""
    try:
        shards = sorted(set(json.loads(path.read_text())["weight_map"].values()))
        if not shards or not all(isinstance(shard, str) for shard in shards):
            raise ValueError("weight_map is not of files' names")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not an index of shards: {error}") from error
    readers = {}
    for shard in shards:
        if shard.endswith(".index.json"):
            raise InputError(f"{path}: shard {shard!r} is an index; it must be a checkpoint")
        if Path(shard).name != shard or not (path.parent / shard).is_file():
            raise InputError(f"{path}: no shard {shard!r} beside it")
        opened = open_checkpoint(path.parent / shard)
        readers |= opened.readers
    return Checkpoint(path, opened.format, readers)


def _in_memory(
    path: Path, kind: str, leaves: dict[str, np.ndarray], metadata: dict[str, str]
) -> Checkpoint:
    return Checkpoint(path, kind, {name: lambda x=x: x for name, x in leaves.items()}, metadata)


def _open_folder(path: Path) -> Checkpoint:
    for name in FOLDER_FILES:
        if (path / name).is_file():
            return open_checkpoint(path / name)
    if is_orbax(path):
        tree = read_orbax(path)
        tree = tree if "params" in tree else {"params": tree}
        return _in_memory(path, "orbax", flatten(tree), {})
    raise InputError(f"{path}: no checkpoint in this folder; it could be {', '.join(FOLDER_FILES)}")
