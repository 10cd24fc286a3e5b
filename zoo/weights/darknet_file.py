"""Darknet's ``.weights`` files: a short header, and then the numbers of all layers, without names.

The header is three int32, the version (major, minor, revision), and the number of images seen in
training: int64 from version 0.2 on, else int32. Then come float32, layer by layer: of a convolution
the biases; with batch norm, its scales, means and variances; then the kernel, ``[out in h w]``. Of
a dense layer the biases and the kernel, ``[out in]``. Reference: `load_weights_upto` in
pjreddie/darknet's ``src/parser.c``.

The file is one tensor to the rest of the zoo, `TENSOR`, and a name map has one rule, `flat_rule`,
which cuts it into the leaves of a model.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from zoo.family import Layout, Rule
from zoo.types import InputError
from zoo.weights.array_files import Readers
from zoo.weights.maps import CONV, SAME, TRANSPOSE
from zoo.writing import write_whole

SOURCE = "darknet"
TENSOR = "darknet"
_LARGEST_VERSION = 9  # of the files there are, the major is 0 and the minor 1 or 2
_START = struct.calcsize("<3i")
_TRANSPOSED = 1000  # a larger major or minor version marks transposed kernels of dense layers


class Piece(NamedTuple):
    """Numbers that follow one another in a file.

    Attributes:
        ours: Paths of the leaves that they become, collection first.
        layout: From the piece, in its shape of the file, to the leaves, and back.
        classes: Positions in `ours` of the leaves whose last axis grows with the number of classes.
    """

    ours: tuple[str, ...]
    layout: Layout = SAME
    classes: tuple[int, ...] = ()


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


def conv_norm_pieces(ours: str) -> tuple[Piece, ...]:
    """The pieces of a `zoo.layers.ConvNorm`; `ours` is its path without the collection."""
    names = (
        ("params", "bias"),
        ("params", "scale"),
        ("batch_stats", "mean"),
        ("batch_stats", "var"),
    )
    norms = (Piece((f"{collection}/{ours}/norm/{name}",)) for collection, name in names)
    return (*norms, Piece((f"params/{ours}/conv/kernel",), CONV))


def head_pieces(ours: str) -> tuple[Piece, ...]:
    """The pieces of a classifier's head: a dense layer, or darknet's 1 x 1 convolution for it."""
    return (
        Piece((f"params/{ours}/bias",), SAME, (0,)),
        Piece((f"params/{ours}/kernel",), TRANSPOSE, (0,)),
    )


def flat_rule(
    pieces: Sequence[Piece], shapes: Callable[[], Mapping[str, Any]], head_dim: int | None = None
) -> Rule:
    """The rule for a whole file.

    A file of another number of classes is cut at the places of its own number, so that the leaves
    of a head have the file's shapes.

    Args:
        pieces: In the order of the file.
        shapes: Gives the leaves of the model, with their shapes, by path. It is called only when a
            file is read.
        head_dim: For a network without its head: the inputs of a head that may follow in the file
            and is left out. None: nothing may follow.
    """
    paths = tuple(path for piece in pieces for path in piece.ours)
    read = partial(_read, pieces, shapes, head_dim)
    return Rule(TENSOR, paths, Layout(read, partial(_write, pieces)))


def _read(
    pieces: Sequence[Piece],
    shapes: Callable[[], Mapping[str, Any]],
    head_dim: int | None,
    numbers: Shaped[np.ndarray, " n"],
) -> tuple[Shaped[np.ndarray, "..."], ...]:
    """The leaves in a file's numbers.

    Raises:
        ValueError: If the file has another count of numbers than the model.
    """
    leaves = {path: tuple(leaf.shape) for path, leaf in shapes().items()}
    wanted = sum(math.prod(leaves[path]) for piece in pieces for path in piece.ours)
    growing = [piece.ours[i] for piece in pieces for i in piece.classes]
    more = len(numbers) - wanted
    if more and growing:
        factor = 1 + more / sum(math.prod(leaves[path]) for path in growing)
        leaves |= {p: (*leaves[p][:-1], round(leaves[p][-1] * factor)) for p in growing}
        more = len(numbers) - sum(math.prod(leaves[p]) for piece in pieces for p in piece.ours)
    elif head_dim is not None and more > 0:
        more %= head_dim + 1
    if more or any(leaves[path][-1] < 1 for path in growing):
        raise ValueError(f"{wanted} numbers expected, {len(numbers)} found")
    found, start = [], 0
    for piece in pieces:
        shape = _shape_in_file(piece, [leaves[path] for path in piece.ours])
        part = numbers[start : start + math.prod(shape)].reshape(shape)
        found += piece.layout.read(part)
        start += part.size
    return tuple(found)


def _shape_in_file(piece: Piece, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    blank = (np.broadcast_to(np.int8(0), shape) for shape in shapes)
    return piece.layout.write(*blank).shape


def _write(pieces: Sequence[Piece], *leaves: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, " n"]:
    """The numbers of a file with these leaves."""
    left, parts = iter(leaves), []
    for piece in pieces:
        part = piece.layout.write(*(next(left) for _ in piece.ours))
        parts.append(np.asarray(part, np.float32).ravel())
    return np.concatenate(parts)
