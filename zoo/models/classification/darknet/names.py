"""Names of timm and mmdet for Darknet-53, and the order of darknet's own files.

mmdet's backbones have no head. In darknet's files a head follows the last convolution, except in
those that were cut for detectors, such as ``darknet53.conv.74``.
"""

from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from zoo.family import NameMap, Rule
from zoo.types import Preprocessing
from zoo.weights.darknet_file import SOURCE
from zoo.weights.darknet_rules import Piece, conv_norm_pieces, flat_rule, head_pieces
from zoo.weights.maps import BATCH_COUNTERS, conv_norm, dense
from zoo.weights.tree import abstract_leaves


def _numbered(model: Any) -> Iterator[tuple[int, int, int]]:
    """The stage of each convolution, its number in the stage, and its number in the network."""
    number = 0
    for i, depth in enumerate(model.num_convs):
        for j in range(depth):
            yield i, j, number
            number += 1


def timm(model: Any) -> tuple[Rule, ...]:
    """Rules for `darknet53`, a residual network."""
    rules: list[Rule] = []
    for i, j, number in _numbered(model):
        theirs = f"stages.{i - 1}.blocks.{(j - 1) // 2}.conv{(j - 1) % 2 + 1}"
        if i == 0:
            theirs = f"stem.conv{j + 1}"
        elif j == 0:
            theirs = f"stages.{i - 1}.conv_down"
        rules += conv_norm(theirs, f"conv_{number}")
    return (*rules, *dense("head.fc", "head"))


def mmdet(model: Any) -> tuple[Rule, ...]:
    """Rules for mmdet's `Darknet`, a residual network."""
    rules: list[Rule] = []
    for i, j, number in _numbered(model):
        theirs = f"conv_res_block{i}.res{(j - 1) // 2}.conv{(j - 1) % 2 + 1}"
        if i == 0:
            theirs = f"conv{j + 1}"
        elif j == 0:
            theirs = f"conv_res_block{i}.conv"
        rules += conv_norm(theirs, f"conv_{number}")
    return tuple(rules)


def darknet(model: Any) -> tuple[Rule, ...]:
    """The rule for a whole file."""
    pieces: list[Piece] = []
    for name in model.conv_names:
        pieces += conv_norm_pieces(name)
    head_dim = None if model.num_classes else model.conv_dims[-1]
    if model.num_classes:
        pieces += head_pieces("head")
    return (flat_rule(pieces, partial(_shapes, model), head_dim),)


@cache
def _shapes(model: Any) -> Mapping[str, Any]:
    return abstract_leaves(model, (jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32),))


def _darknet_preprocessing(model: Any, file: str) -> Preprocessing:
    """Pixels of 0..1; evaluation in darknet crops the centre of the shorter side's length."""
    side = 224 if model.leaky_head else 256
    return Preprocessing((side, side), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear", 1.0)


NAMES = (
    NameMap("timm", timm, BATCH_COUNTERS, fields={"negative_slope": 0.01}),
    NameMap("mmdet", mmdet, BATCH_COUNTERS),
    NameMap(SOURCE, darknet, preprocessing=_darknet_preprocessing),
)
