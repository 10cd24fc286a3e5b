"""Polygons to run-length masks, pixel for pixel as COCO's maskApi draws them.

maskApi walks along every edge on a grid five times finer than the pixels, and records where the
edge crosses the centre line of a pixel column: there the pixels of the column change value. This
module computes the crossings alone, for all edges of all polygons together.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from zoo.ops.ragged import lengths_to_offsets, spread
from zoo.ops.rle import MaskError, Masks

_UPSAMPLE = 5
_MOST = 1e9  # no coordinate is larger


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
        MaskError: If a coordinate is not finite, or beyond 1e9.
    """
    lengths = np.array([len(p) // 2 for p in polygons], int)
    flat = np.fromiter((v for p in polygons for v in p[: len(p) // 2 * 2]), float)
    if len(wild := np.flatnonzero(~(np.abs(flat) <= _MOST))):
        rows = np.unique(
            owners[np.searchsorted(lengths_to_offsets(lengths), wild // 2, "right") - 1]
        )
        what = "beyond 1e9" if np.isfinite(flat).all() else "that are not finite"
        raise MaskError(rows, f"a polygon with numbers {what}")
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
    start: Int[np.ndarray, "e 2"],
    end: Int[np.ndarray, "e 2"],
    polygon: Int[np.ndarray, " e"],
    widths: Int[np.ndarray, " m"],
) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " c"], Int[np.ndarray, " c"]]:
    """Where polygon edges cross the centre line of a pixel column.

    The line lies between the fine columns ``5 c + 2`` and ``5 c + 3``. The place along the edge is
    computed from the slope, and corrected with the rounding of maskApi.

    Args:
        start: Edge starts on the fine grid, x and y.
        end: Edge ends.
        polygon: The polygon of each edge.
        widths: Image width of each polygon.

    Returns:
        For each crossing its polygon, its pixel column, and the smaller of the fine rows on the two
        sides of the line.
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
    return polygon[edge], column, _crossing_rows(start[edge], end[edge], wide[edge], fine)


def _crossing_rows(
    start: Int[np.ndarray, "c 2"],
    end: Int[np.ndarray, "c 2"],
    wide: Bool[np.ndarray, " c"],
    fine: Int[np.ndarray, " c"],
) -> Int[np.ndarray, " c"]:
    """The smaller fine row on the two sides of each crossing.

    Args:
        start: Start of the edge, x and y.
        end: Its end.
        wide: Whether the edge is at least as wide as high: maskApi walks along the longer side.
        fine: Fine column to the left of the centre line.
    """
    (xs, ys), (xe, ye) = start.T, end.T
    row = np.empty(len(fine), np.int64)
    x, y = xs[wide], ys[wide]
    slope = (ye[wide] - y) / (xe[wide] - x)
    t = fine[wide] - x
    ends = [(y + slope * step + 0.5).astype(np.int64) for step in (t, t + 1)]
    row[wide] = np.minimum(*ends)
    x, y, target = xs[~wide], ys[~wide], fine[~wide]
    slope = (xe[~wide] - x) / (ye[~wide] - y)
    row[~wide] = y + _last_step_before(x, slope, target)
    return row


def _last_step_before(
    x: Int[np.ndarray, " c"], slope: Float[np.ndarray, " c"], target: Int[np.ndarray, " c"]
) -> Int[np.ndarray, " c"]:
    """The largest t for which the rounded ``x + slope t`` has not yet passed `target`."""
    rising = slope > 0
    t = np.floor((target + 0.5 - x) / slope).astype(np.int64)

    def before(t: Int[np.ndarray, " c"]) -> Bool[np.ndarray, " c"]:
        fine = (x + slope * t + 0.5).astype(np.int64)
        return np.where(rising, fine <= target, fine > target)

    for _ in range(2):  # the quotient differs by one step at most
        t -= ~before(t)
        t += before(t + 1)
    return t


def _pair_up(
    polygon: Int[np.ndarray, " c"], toggles: Int[np.ndarray, " c"], areas: Int[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " t"]]:
    """Sorted toggles of each polygon: equal ones cancel in pairs, and an even number remains.

    Returns:
        The polygon of each toggle, and the toggles.
    """
    span = int(areas.max(initial=0)) + 1
    keys, counts = np.unique(polygon * span + toggles, return_counts=True)
    keys = keys[counts % 2 == 1]
    odd = np.flatnonzero(np.bincount(keys // span, minlength=len(areas)) % 2)
    open_end = odd * span + areas[odd]  # a run without an end reaches the end of the image
    keys = np.sort(np.concatenate([keys, open_end]))
    return keys // span, keys % span


def _union(
    polygon: Int[np.ndarray, " t"],
    toggles: Int[np.ndarray, " t"],
    owners: Int[np.ndarray, " m"],
    sizes: Int[np.ndarray, "n 2"],
) -> Masks:
    """Joins the runs of the polygons that belong to the same mask."""
    span = int(sizes.prod(axis=1).max(initial=0)) + 1
    is_end = np.arange(len(toggles)) % 2
    # Starts come before ends at the same position, so that touching runs join.
    events = np.sort((owners[polygon] * span + toggles) * 2 + is_end)
    is_end = events % 2
    depth = np.cumsum(1 - 2 * is_end)
    outer = events[depth == is_end ^ 1] // 2
    lengths = np.bincount(outer // span, minlength=len(sizes))
    return Masks((outer % span).astype(np.int32), lengths_to_offsets(lengths), sizes)
