"""The order of darknet's files of YOLO v1.

Its last layer has all classes of all cells, then the objectness of all boxes, then all boxes. The
first dense layer takes the features of a map by feature, row and column; ours by row, column and
feature.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Shaped

from zoo.family import Layout
from zoo.models.detection.parts.yolo_names import darknet_map
from zoo.weights.darknet_rules import Piece, conv_norm_pieces
from zoo.weights.maps import SAME, TRANSPOSE

_Array = Shaped[np.ndarray, "..."]


def darknet_pieces(model: Any) -> tuple[Piece, ...]:
    """What follows the backbone."""
    pieces: list[Piece] = []
    for i in range(len(model.extra_dims)):
        pieces += conv_norm_pieces(f"extra_{i}")
    stride = model.make_body().feature_strides[-1] * math.prod(model.extra_strides)
    side = model.image_size // stride
    if model.local_dim:
        pieces.append(Piece(("params/local/bias",), _LOCAL_BIAS))
        pieces.append(Piece(("params/local/kernel",), local_kernel(3)))
    kernel = of_map(side)
    for i in range(len(model.hidden_dims)):
        pieces.append(Piece((f"params/hidden_{i}/bias",)))
        pieces.append(Piece((f"params/hidden_{i}/kernel",), kernel))
        kernel = TRANSPOSE
    boxes = side * side * model.num_boxes
    parts = ("logits", "objectness", "deltas")
    for leaf, layout in (("bias", SAME), ("kernel", kernel)):
        paths = tuple(f"params/{part}/{leaf}" for part in parts)
        pieces.append(Piece(paths, _stacked(boxes, layout), (0,)))
    return tuple(pieces)


def of_map(side: int) -> Layout:
    """The kernel of a dense layer whose input is a map of `side` rows and columns."""

    def read(x: _Array) -> tuple[_Array]:
        rows = x.reshape(len(x), -1, side, side)  # out, feature, row, column
        return (rows.transpose(2, 3, 1, 0).reshape(-1, len(x)),)

    def write(x: _Array) -> _Array:
        rows = x.reshape(side, side, -1, x.shape[-1])
        return rows.transpose(3, 2, 0, 1).reshape(x.shape[-1], -1)

    return Layout(read, write)


def local_kernel(size: int) -> Layout:
    """The kernels of `zoo.layers.local_conv.LocalConv`: theirs ``[h w out in size size]``."""

    def read(x: _Array) -> tuple[_Array]:
        h, w, out, dim, *_ = x.shape
        return (x.reshape(h, w, out, dim, size * size).transpose(0, 1, 4, 3, 2),)

    def write(x: _Array) -> _Array:
        h, w, _, dim, out = x.shape
        return x.transpose(0, 1, 4, 3, 2).reshape(h, w, out, dim, size, size)

    return Layout(read, write)


_LOCAL_BIAS = Layout(lambda x: (x.transpose(1, 2, 0),), lambda x: x.transpose(2, 0, 1))


def _stacked(boxes: int, part: Layout) -> Layout:
    """One array of classes, objectness and boxes of all cells; `boxes` is their number."""

    def read(x: _Array) -> tuple[_Array, ...]:
        parts = np.split(x, [len(x) - 5 * boxes, len(x) - 4 * boxes])
        return tuple(part.read(y)[0] for y in parts)

    return Layout(read, lambda *xs: np.concatenate([part.write(x) for x in xs]))


NAMES = (darknet_map(darknet_pieces),)
