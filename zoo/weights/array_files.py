"""Files of arrays by name: safetensors and numpy's npz, each array read when it is accessed."""

import json
import math
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from zoo.types import InputError

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
Readers = dict[str, Callable[[], np.ndarray]]


def read_safetensors(path: Path) -> tuple[Readers, dict[str, str]]:
    """The tensors of a safetensors file, mapped into memory one by one, and its metadata.

    The format: 8 bytes with the header's length, the header as JSON, then the numbers.

    Raises:
        InputError: If the header is broken or the file is shorter than it says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if 8 + length > size:
            raise InputError(f"{path}: cut short: {size} bytes, but its header alone has {length}")
        try:
            header = json.loads(file.read(length))
            metadata = header.pop("__metadata__", {})
            if not all(isinstance(value, str) for value in metadata.values()):
                raise TypeError("__metadata__ has values that are not strings")
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
    # Sizes of 0 are left out of the product: they must not hide other sizes that are impossible.
    if any(n < 0 for n in shape) or math.prod(n for n in shape if n) >= 2**48 or len(shape) > 32:
        raise ValueError(f"no array can have the shape {list(shape)}")
    if start < 0 or stop - start != dtype.itemsize * math.prod(shape):
        raise ValueError(f"{stop - start} bytes for shape {list(shape)}")
    return dtype, shape, start, stop


def is_npz(path: Path) -> bool:
    """Whether a zip archive holds arrays of numpy."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except Exception:  # any exception of zipfile for damage, which `read_torch` then names
        return False


def read_npz(path: Path) -> Readers:
    """The arrays of an npz file.

    Raises:
        InputError: If it is damaged, or an array is: then when that array is read.
    """
    try:
        archive = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:  # not a zip archive from its first byte on
        raise InputError(
            f"{path}: not a readable npz file: {str(error).splitlines()[0]}"
        ) from error

    def read(member: str) -> np.ndarray:
        try:
            array = archive[member]
            if not isinstance(array, np.ndarray):  # for other content numpy returns bytes
                raise TypeError("not in numpy's format")
        except Exception as error:  # any exception of zipfile, zlib or numpy for damage
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: {member} cannot be read: {reason}") from error
        return array

    members = [name for name in archive.zip.namelist() if name.endswith(".npy")]
    return {member.removesuffix(".npy"): partial(read, member) for member in members}
