"""Masks as COCO's files store them: polygons, run lengths, compressed run lengths."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from zoo.ops import rle
from zoo.ops.polygons import from_polygons
from zoo.ops.rle import Masks

_MOST_PIXELS = 2**31 - 1  # positions of pixels are int32


@runtime_checkable
class RunLengths(Protocol):
    """A mask in COCO's json: `size` is height and width; `counts` is a list, or compressed text."""

    size: tuple[int, int]
    counts: str | list[int]


def read_masks(
    segmentations: Sequence[Any],
    sizes: Int[np.ndarray, "n 2"],
    refuse: Callable[[Int[np.ndarray, " r"], str], None],
) -> Masks:
    """Converts polygons and run lengths to masks, in the same order.

    Args:
        segmentations: The values in the file: lists of polygons, `RunLengths`, or None. A polygon
            of fewer than 3 points is left out if another one of its list has more.
        sizes: Height and width of each mask's image; used for polygons.
        refuse: Called with the indices of masks that are unusable, which may be none, and the
            reason; it raises an error if there are any.
    """
    sizes = sizes.copy()
    segmentations = [without_stubs(s) if isinstance(s, list) else s for s in segmentations]
    kinds = np.array([_kind(s) for s in segmentations], int)
    rows = [np.flatnonzero(kinds == kind) for kind in range(3)]
    refuse(np.flatnonzero(kinds < 0), "polygons need at least 3 points each")
    refuse(rows[0][(sizes[rows[0]] <= 0).any(axis=1)], "polygons in an image without height, width")
    encoded = np.flatnonzero(kinds > 0)
    given = itertools.chain.from_iterable(segmentations[row].size for row in encoded.tolist())
    sizes[encoded] = np.fromiter(given, np.int64, count=2 * len(encoded)).reshape(-1, 2)
    refuse(np.flatnonzero((sizes <= 0).any(axis=1)), "mask without height or width")
    large = sizes.astype(float).prod(axis=1) > _MOST_PIXELS
    refuse(np.flatnonzero(large), f"mask of more than {_MOST_PIXELS} pixels")
    parts = []
    for kind, which in enumerate(rows):
        chosen = [segmentations[row] for row in which.tolist()]
        try:
            parts.append(_READERS[kind](chosen, sizes[which]))
        except rle.MaskError as error:
            refuse(which[error.rows], f"mask: {error}")
    order = np.argsort(np.concatenate(rows), kind="stable")
    masks = Masks.concatenate(parts)
    return masks if (kinds == kinds[:1]).all() else masks.take(order)


def without_stubs(polygons: list[list[float]]) -> list[list[float]]:
    """The polygons of at least 3 points; all polygons if none has so many."""
    if all(len(polygon) >= 6 for polygon in polygons):
        return polygons
    return [polygon for polygon in polygons if len(polygon) >= 6] or polygons


def _kind(segmentation: Any) -> int:
    """0 for polygons, 1 for compressed run lengths, 2 for plain ones, -1 if unusable."""
    if isinstance(segmentation, list):
        return 0 if segmentation and all(len(p) >= 6 for p in segmentation) else -1
    if segmentation is None:
        return -1
    return 1 if isinstance(segmentation.counts, str) else 2


def _read_polygons(segmentations: list[list[list[float]]], sizes: Int[np.ndarray, "n 2"]) -> Masks:
    counts = np.array([len(polygons) for polygons in segmentations], int)
    owners = np.repeat(np.arange(len(counts)), counts)
    return from_polygons(list(itertools.chain.from_iterable(segmentations)), owners, sizes)


def _read_counts(segmentations: list[RunLengths], sizes: Int[np.ndarray, "n 2"]) -> Masks:
    lengths = np.array([len(s.counts) for s in segmentations], int)
    counts = np.fromiter(itertools.chain.from_iterable(s.counts for s in segmentations), np.int64)
    return rle.from_counts(counts, lengths, sizes)


_READERS: tuple[Callable[[Any, Int[np.ndarray, "n 2"]], Masks], ...] = (
    _read_polygons,
    lambda segmentations, sizes: rle.from_strings([s.counts for s in segmentations], sizes),
    _read_counts,
)
