"""Polygons to run-length masks, pixel for pixel as COCO's maskApi draws them.

maskApi walks along every edge on a grid five times finer than the pixels and notes where it crosses
the centre line of a pixel column; a column's pixels change value there. Here only the crossings are
computed, those of all edges of all polygons together.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from zoo.ops.ragged import lengths_to_offsets, spread
from zoo.ops.rle import MaskError, Masks

_UPSAMPLE = 5


def from_polygons(
    polygons: Sequence[Sequence[float]],
    owners: Int[np.ndarray, " m"],
    sizes: Int[np.ndarray, "n 2"],
) -> Masks:
    """Masks that are the union of polygons.

    Args:
        polygons: m polygons, each x1, y1, x2, y2, ... in pixels.
        owners: The mask that each polygon belongs to, ascending.
        sizes: Heights and widths of the n masks.

    Raises:
        MaskError: If a coordinate is not finite.
    """
    lengths = np.array([len(p) // 2 for p in polygons], int)
    flat = np.fromiter((v for p in polygons for v in p[: len(p) // 2 * 2]), float)
    if len(wild := np.flatnonzero(~np.isfinite(flat))):
        rows = np.unique(
            owners[np.searchsorted(lengths_to_offsets(lengths), wild // 2, "right") - 1]
        )
        raise MaskError(rows, "a polygon with numbers that are not finite")
    points = np.trunc(_UPSAMPLE * flat.reshape(-1, 2) + 0.5).astype(np.int64)
    offsets = lengths_to_offsets(lengths)
    following = np.arange(1, len(points) + 1)
    following[offsets[1:] - 1] = offsets[:-1]  # the last point joins the first
    size = sizes[owners]
    polygon, column, row = _crossings(
        points, points[following], np.repeat(np.arange(len(lengths)), lengths), size[:, 1]
    )
    height = size[polygon, 0]
    row = np.ceil(np.clip((row + 0.5) / _UPSAMPLE - 0.5, 0, height)).astype(np.int64)
    polygon, toggles = _pair_up(polygon, column * height + row, size.prod(axis=1))
    return _union(polygon, toggles, owners, sizes)


def _crossings(
    start: np.ndarray, end: np.ndarray, polygon: np.ndarray, widths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where polygon edges cross the centre line of a pixel column.

    That is between fine columns ``5 c + 2`` and ``5 c + 3``. The place along the edge follows from
    the slope, and is corrected by the original's own rounding.

    Args:
        start: Edge starts on the fine grid, ``[e, 2]``.
        end: Edge ends.
        polygon: The polygon of each edge.
        widths: Image width of each polygon.

    Returns:
        Polygon, pixel column, and the smaller fine row of the two sides of each step.
    """
    flat = np.abs(end - start)
    wide = flat[:, 0] >= flat[:, 1]
    flip = np.where(wide, start[:, 0] > end[:, 0], start[:, 1] > end[:, 1])[:, None]
    start, end = np.where(flip, end, start), np.where(flip, start, end)
    left = np.minimum(start[:, 0], end[:, 0])
    right = np.maximum(start[:, 0], end[:, 0])
    half = _UPSAMPLE // 2
    first = np.maximum(-((half - left) // _UPSAMPLE), 0)  # columns with left <= 5 c + 2
    last = np.minimum((right - half - 1) // _UPSAMPLE, widths[polygon] - 1)  # 5 c + 3 <= right
    counts = np.maximum(last - first + 1, 0)
    edge = np.repeat(np.arange(len(counts)), counts)
    column = spread(first, counts)
    fine = _UPSAMPLE * column + half
    (xs, ys), (xe, ye), wide = start[edge].T, end[edge].T, wide[edge]
    row = np.empty(len(edge), np.int64)
    x, y = xs[wide], ys[wide]
    slope = (ye[wide] - y) / (xe[wide] - x)
    t = fine[wide] - x
    ends = [(y + slope * step + 0.5).astype(np.int64) for step in (t, t + 1)]
    row[wide] = np.minimum(*ends)
    x, y, target = xs[~wide], ys[~wide], fine[~wide]
    slope = (xe[~wide] - x) / (ye[~wide] - y)
    row[~wide] = y + _last_step_before(x, slope, target)
    return polygon[edge], column, row


def _last_step_before(x: np.ndarray, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The largest t whose rounded ``x + slope t`` has not crossed from `target` to beyond."""
    rising = slope > 0
    t = np.floor((target + 0.5 - x) / slope).astype(np.int64)

    def before(t: np.ndarray) -> np.ndarray:
        fine = (x + slope * t + 0.5).astype(np.int64)
        return np.where(rising, fine <= target, fine > target)

    for _ in range(2):  # the quotient is off by a step at most, each way
        t -= ~before(t)
        t += before(t + 1)
    return t


def _pair_up(
    polygon: np.ndarray, toggles: np.ndarray, areas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted toggles of each polygon without those that cancel, an even number of each.

    Returns:
        The polygon of each toggle, and the toggles.
    """
    span = int(areas.max(initial=0)) + 1
    keys, counts = np.unique(polygon * span + toggles, return_counts=True)
    keys = keys[counts % 2 == 1]
    odd = np.flatnonzero(np.bincount(keys // span, minlength=len(areas)) % 2)
    open_end = odd * span + areas[odd]  # a run that nothing closes reaches the end of the image
    keys = np.sort(np.concatenate([keys, open_end]))
    return keys // span, keys % span


def _union(
    polygon: np.ndarray, toggles: np.ndarray, owners: np.ndarray, sizes: np.ndarray
) -> Masks:
    """Joins the runs of polygons that belong to the same mask."""
    span = int(sizes.prod(axis=1).max(initial=0)) + 1
    is_end = np.arange(len(toggles)) % 2
    events = np.sort((owners[polygon] * span + toggles) * 2 + is_end)  # starts first: runs join
    is_end = events % 2
    depth = np.cumsum(1 - 2 * is_end)
    outer = events[depth == is_end ^ 1] // 2
    lengths = np.bincount(outer // span, minlength=len(sizes))
    return Masks((outer % span).astype(np.int32), lengths_to_offsets(lengths), sizes)
