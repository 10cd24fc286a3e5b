"""Darknet's ``.weights`` files: a short header, and then the numbers of all layers, without names.

The header is three int32, the version (major, minor, revision), and the number of images seen in
training: int64 from version 0.2 on, else int32. Then come float32, which
`zoo.weights.darknet_rules` describes. Reference: `load_weights_upto` in pjreddie/darknet's
``src/parser.c``.

The file is one tensor to the rest of the zoo, `TENSOR`.
"""

import struct
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from zoo.types import InputError
from zoo.weights.array_files import Readers
from zoo.writing import write_whole

SOURCE = "darknet"
TENSOR = "darknet"
_LARGEST_VERSION = 9  # of the files there are, the major is 0 and the minor 1 or 2
_START = struct.calcsize("<3i")
_TRANSPOSED = 1000  # a larger major or minor version marks transposed kernels of dense layers


def is_darknet(start: bytes) -> bool:
    """Whether a file's first bytes are darknet's header."""
    if len(start) < _START:
        return False
    version = struct.unpack("<3i", start[:_START])
    if version[0] > _TRANSPOSED or version[1] > _TRANSPOSED:
        return False
    return all(0 <= x <= _LARGEST_VERSION for x in version) and 10 * version[0] + version[1] > 0


def read_darknet(path: Path) -> Readers:
    """The numbers of a file, mapped into memory, as one tensor.

    Raises:
        InputError: If the file ends within a number or within the header.
    """
    with path.open("rb") as file:
        major, minor, _ = struct.unpack("<3i", file.read(_START))
    start = _START + (8 if 10 * major + minor >= 2 else 4)
    size = path.stat().st_size - start
    if size < 4 or size % 4:
        raise InputError(
            f"{path}: cut short or damaged: {size + start} bytes, which are not darknet's header of"
            f" {start} bytes and whole numbers of 4 bytes"
        )
    return {TENSOR: lambda: np.memmap(path, np.dtype("<f4"), "r", start, (size // 4,))}


def write_darknet(path: Path, numbers: Shaped[np.ndarray, " n"]) -> None:
    """Writes a file of version 0.2, of 0 images seen; no incomplete file appears.

    Raises:
        WriteError: If the file cannot be written.
    """
    write_whole(path, struct.pack("<3iq", 0, 2, 0, 0) + np.asarray(numbers, "<f4").tobytes())
