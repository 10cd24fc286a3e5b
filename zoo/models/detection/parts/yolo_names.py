"""Names and layouts that several YOLO detectors share."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Shaped

from zoo.family import Layout, NameMap, Rule
from zoo.models.inputs import padded_images
from zoo.weights.darknet_file import SOURCE
from zoo.weights.darknet_rules import Piece, conv_norm_pieces, flat_rule
from zoo.weights.maps import CONV, SAME
from zoo.weights.tree import abstract_leaves

_PARTS = ("deltas", "objectness", "logits")


def by_anchor(num_anchors: int, part: Layout) -> Layout:
    """Their one array of all outputs of all anchors; ours are those of `YoloPredictor`.

    For each anchor they have the box, the objectness and the classes.

    Args:
        num_anchors: Anchors of a cell.
        part: The layout of one of our arrays; its outputs are the first axis of theirs.
    """

    def read(x: Shaped[np.ndarray, "n *d"]) -> tuple[Shaped[np.ndarray, "..."], ...]:
        if len(x) % num_anchors:
            raise ValueError(f"{len(x)} outputs are not those of {num_anchors} anchors")
        rows = x.reshape(num_anchors, -1, *x.shape[1:])
        parts = np.split(rows, [4, 5], axis=1)
        return tuple(part.read(y.reshape(-1, *x.shape[1:]))[0] for y in parts)

    def write(*ours: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "n *d"]:
        theirs = [part.write(y) for y in ours]
        rows = [y.reshape(num_anchors, -1, *y.shape[1:]) for y in theirs]
        return np.concatenate(rows, axis=1).reshape(-1, *theirs[0].shape[1:])

    return Layout(read, write)


def predictor_rules(theirs: str, ours: str, num_anchors: int) -> tuple[Rule, ...]:
    """Rules for the last convolution of a level."""
    return tuple(
        Rule(f"{theirs}.{name}", paths, by_anchor(num_anchors, layout))
        for name, paths, layout in (
            ("weight", _paths(ours, "kernel"), CONV),
            ("bias", _paths(ours, "bias"), SAME),
        )
    )


def predictor_pieces(ours: str, num_anchors: int) -> tuple[Piece, ...]:
    """The pieces of the last convolution of a level in darknet's files."""
    return (
        Piece(_paths(ours, "bias"), by_anchor(num_anchors, SAME), (2,)),
        Piece(_paths(ours, "kernel"), by_anchor(num_anchors, CONV), (2,)),
    )


def _paths(ours: str, leaf: str) -> tuple[str, ...]:
    return tuple(f"params/{ours}/{part}/{leaf}" for part in _PARTS)


def darknet_map(pieces: Callable[[Any], tuple[Piece, ...]]) -> NameMap:
    """The name map of darknet's files.

    Args:
        pieces: A function from a detector to the pieces after its backbone, in the file's order.
    """

    def rules(model: Any) -> tuple[Rule, ...]:
        names = getattr(model.make_body(), "conv_names", ())  # of another backbone it has none
        body = (piece for name in names for piece in conv_norm_pieces(f"body/{name}"))
        return (flat_rule((*body, *pieces(model)), partial(_shapes, model)),)

    return NameMap(SOURCE, rules)


@cache
def _shapes(model: Any) -> Mapping[str, Any]:
    inputs = partial(padded_images, model, None, 1)
    return abstract_leaves(model, jax.eval_shape(inputs, jax.random.key(0)))
