"""Opens a checkpoint file or folder; its content, not its name, tells the format."""

import dataclasses
import json
import os
import re
import zipfile
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.text_files import read_text
from zoo.types import InputError, Preprocessing
from zoo.weights.array_files import Readers, is_npz, read_npz, read_safetensors
from zoo.weights.darknet_file import SOURCE, is_darknet, read_darknet
from zoo.weights.preprocessing import from_json
from zoo.weights.run import fields_from_json, fields_to_json, is_orbax, is_run, read_orbax, read_run
from zoo.weights.torch_file import read_torch
from zoo.weights.tree import flatten
from zoo.weights.wrappers import unwrap_npz, unwrap_torch

# Checkpoint files that a folder from a hub may contain, preferred first.
FOLDER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Key of the metadata entry with the model's name, its fields and the source of the tensors' names.
METADATA = "jax-vision-zoo"
# Longest header of a safetensors file, in bytes, that other programs read.
MAX_HEADER = 100_000_000
# How a checkpoint's file does not begin, and what begins so.
_BEGINNINGS = (
    (b"version https://git-lfs", "a pointer of git LFS, not the file itself: run `git lfs pull`"),
    (b"\x89HDF", "an HDF5 file, such as Keras writes: convert it to safetensors"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "compressed with xz: unpack it first"),
    (b"Rar!", "a rar archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"GGUF", "a GGUF file"),
    (b"\x93NUMPY", "a single array of numpy: np.savez writes arrays with names"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
)


class Description(NamedTuple):
    """What a file that the zoo wrote says about its model.

    Attributes:
        name: The model's name.
        fields: The model's fields.
        source: The project whose tensor names the file has.
        preprocessing: How images are prepared; None in files of version 0.1 and in runs.
        class_names: Names of the classes, by label; empty if none were given.
    """

    name: str
    fields: dict[str, object]
    source: str | None
    preprocessing: Preprocessing | None
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Checkpoint(Mapping[str, np.ndarray]):
    """Tensors by name; each is read when it is accessed, so only one need be in memory at a time.

    Attributes:
        path: The file or folder.
        format: ``safetensors``, ``npz``, ``torch``, ``darknet``, ``orbax`` or ``run``.
        readers: For each tensor a function that reads it.
        metadata: Metadata of a safetensors file; for a run, the description of its model.
    """

    path: Path
    format: str
    readers: Readers
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def description(self) -> Description | None:
        """What `zoo.save` or a run says about the model; None if another program wrote the file.

        Raises:
            InputError: If the description is damaged.
        """
        if METADATA not in self.metadata:
            return None
        try:
            entry = json.loads(self.metadata[METADATA])
            how = entry.get("preprocessing")
            found = Description(
                entry["name"],
                fields_from_json(entry["fields"]),
                entry.get("source"),
                None if how is None else from_json(how),
                tuple(entry.get("class_names", ())),
            )
            if not isinstance(found.name, str) or not isinstance(found.source, str | None):
                raise TypeError("a name that is not a string")
            if not all(isinstance(name, str) for name in found.class_names):
                raise TypeError("class_names that are not strings")
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
    """Opens a file of safetensors, npz, PyTorch or darknet, a pickle, an index, a folder with one.

    Raises:
        InputError: If the path does not exist, is not a checkpoint, or is cut short; the message is
            one line that names the path.
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
        start = file.read(1024)
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and length <= MAX_HEADER and not start.startswith(b"PK"):
        readers, metadata = read_safetensors(path)
        return Checkpoint(path, "safetensors", unwrap_torch(readers), metadata)
    if zipfile.is_zipfile(path) and is_npz(path):
        return Checkpoint(path, "npz", unwrap_npz(read_npz(path)))
    if start.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise InputError(f"{path}: cut short: a zip archive (npz or PyTorch) without its end")
    if start.startswith((b"PK", b"\x80")):
        return Checkpoint(path, "torch", unwrap_torch(read_torch(path)))
    if is_darknet(start):
        return Checkpoint(path, "darknet", read_darknet(path))
    raise InputError(f"{path}: not a checkpoint: {_what_it_is(start)}")


def _what_it_is(start: bytes) -> str:
    """What a file is that is no checkpoint, as far as its first bytes tell."""
    if not start:
        return "it is empty (0 bytes)"
    for beginning, what in _BEGINNINGS:
        if start.startswith(beginning):
            return what
    if re.match(rb"\s*(<!doctype html|<html|<head|<\?xml)", start.removeprefix(BOM_UTF8), re.I):
        return "a web page: the download gave a page, such as a login, instead of the file"
    if re.match(rb"[\x81-\x8f][\xa1-\xbf]\w", start):
        return "msgpack, as in older files of Flax: convert it to safetensors"
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    return "neither safetensors, npz, a PyTorch file nor darknet's weights"


_FORMAT = "safetensors"
# Suffixes of files in formats that the zoo does not write.
_OTHER_FORMATS = (
    *(".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar", ".zip", ".gz", ".npz", ".npy"),
    *(".h5", ".hdf5", ".keras", ".msgpack", ".onnx", ".gguf", ".tflite", ".pb", ".json", ".txt"),
)


def check_output(path: str | Path, source: str = "zoo") -> None:
    """Checks that a file of a source can be written to a path: darknet's, or else safetensors.

    Raises:
        InputError: If the path has the suffix of another format, is a folder, or is in no folder.
    """
    path = Path(path)
    ours = ("darknet's weights", ".weights") if source == SOURCE else (_FORMAT, f".{_FORMAT}")
    other = {".weights", f".{_FORMAT}", *_OTHER_FORMATS} - {ours[1]}
    if (suffix := path.suffix.lower()) in other:
        raise InputError(
            f"{path}: the file is written as {ours[0]}: give a name that ends in {ours[1]}"
            f" (or without a suffix), not {suffix}"
        )
    if not os.path.isdir(path.absolute().parent):  # unlike Path.is_dir, no error for long names
        raise InputError(f"{path}: there is no folder {path.absolute().parent} to write it to")
    if os.path.isdir(path):
        raise InputError(f"{path}: it is a folder; give the name of a file to write")


def _open_index(path: Path) -> Checkpoint:
    """Opens a Hugging Face index, which says which shard in its folder holds which tensor."""
    try:
        shards = sorted(set(json.loads(read_text(path))["weight_map"].values()))
        if not shards or not all(isinstance(shard, str) for shard in shards):
            raise ValueError("weight_map does not hold names of files")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not an index of shards: {error}") from error
    readers = {}
    for shard in shards:
        if shard.endswith(".index.json"):
            raise InputError(f"{path}: shard {shard!r} is an index; it must be a checkpoint")
        if Path(shard).name != shard or not os.path.isfile(path.parent / shard):
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
    raise InputError(f"{path}: no checkpoint in this folder; looked for {', '.join(FOLDER_FILES)}")
