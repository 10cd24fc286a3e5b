"""The rule by which the numbers of a darknet file become the leaves of a model.

The numbers come layer by layer: of a convolution the biases; with batch norm, its scales, means and
variances; then the kernel, ``[out in h w]``. Of a dense layer the biases and the kernel, ``[out
in]``. A name map has one rule, `flat_rule`, which cuts them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from zoo.family import Layout, Rule
from zoo.weights.darknet_file import TENSOR
from zoo.weights.maps import CONV, SAME, TRANSPOSE


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
