"""Pooling of regions whose bins are whole cells: RoIPool, and spatial pyramids.

Fast R-CNN (arXiv 1504.08083) and SPP-net (arXiv 1406.4729); the rounding of corners is that of
rbgirshick/fast-rcnn and ShaoqingRen/SPP_net. The edges of bins are exact; the float32 arithmetic of
Caffe makes the last bin one cell larger for a few sizes, such as 57 cells in 7 bins. No gradient
flows to the boxes.
"""

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from zoo.ops.roi_chunks import MAPS, Chunk, flatten, levels_of, plan, sizes_of
from zoo.types import check_choice

Rounding = Literal["fast_rcnn", "spp_net"]


class _Settings(NamedTuple):
    """What does not depend on the data."""

    strides: tuple[float, ...]
    size: int
    rounding: Rounding
    grids: tuple[tuple[int, int], ...]  # rows and columns of the maps


class _Bins(NamedTuple):
    """Bins along an axis of a map: cells from `first` up to, but without, `last`."""

    first: Int[Array, "b s p"]
    last: Int[Array, "b s p"]

    @property
    def turns(self) -> Int[Array, ""]:
        """Cells of the longest bin."""
        return (self.last - self.first).max(initial=0)


def roi_pool(
    maps: MAPS,
    boxes: Float[Array, "b r 4"],
    levels: Int[Array, "b r"] | None = None,
    *,
    strides: Sequence[int | float],
    size: int,
    rounding: Rounding = "fast_rcnn",
) -> Float[Array, "b r size size c"]:
    """Pools every box into a grid of bins, each the largest value of its cells.

    A box is rounded to whole cells of the map, and includes the last one, so it is at least a cell
    wide and high. Neighbouring bins share the cells that both touch. Of equal largest values, the
    first one gets the gradient.

    >>> features = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> boxes = jnp.array([[[0.0, 0.0, 6.0, 6.0]]])
    >>> roi_pool([features], boxes, strides=[2.0], size=2).ravel().tolist()
    [5.0, 7.0, 13.0, 15.0]

    Args:
        maps: Feature maps, with any number of rows and columns. For SPP-net, those of the image at
            several scales.
        boxes: ``xyxy`` in pixels of the image, the last ones included.
        levels: Number of the map that each box is pooled from; a box with a number that no map has,
            such as -1, gives zeros. By default all are pooled from the first map.
        strides: Pixels of the image in a cell, for each map.
        size: Bins in a row and a column of the grid.
        rounding: ``fast_rcnn``: corners go to the nearest cell. ``spp_net``: corners go to the
            cells whose centres are inside the box, or to the one in the middle if there are none,
            and are clipped to the map. Its offsets can be added to the boxes.

    Returns:
        The pooled features. A bin without cells, because it is beyond the map, is 0.

    Raises:
        ValueError: If there is not one stride for each map.
    """
    check_choice("rounding", rounding, Rounding)
    levels = levels_of(maps, boxes, levels, strides)
    c = maps[0].shape[-1]
    if 0 in (*boxes.shape[:2], c):
        return jnp.zeros((*boxes.shape[:2], size, size, c), maps[0].dtype)
    settings = _Settings(tuple(map(float, strides)), size, rounding, sizes_of(maps))
    return _pool(settings, tuple(map(flatten, maps)), boxes, levels)


def spatial_pyramid_pool(
    maps: MAPS,
    boxes: Float[Array, "b r 4"],
    levels: Int[Array, "b r"] | None = None,
    *,
    strides: Sequence[int | float],
    bins: Sequence[int] = (6, 3, 2, 1),
    rounding: Rounding = "spp_net",
) -> Float[Array, "b r n c"]:
    """Pools every box into several grids, as SPP-net does; the arguments are `roi_pool`'s.

    Args:
        maps: Feature maps.
        boxes: ``xyxy`` in pixels of the image.
        levels: Number of the map that each box is pooled from.
        strides: Pixels of the image in a cell, for each map.
        bins: Bins in a row and a column of each grid.
        rounding: How corners are rounded to cells.

    Returns:
        The bins of all grids, one grid after the other, each row by row: 50 by default.
    """
    pool = functools.partial(roi_pool, maps, boxes, levels, strides=strides, rounding=rounding)
    b, r = boxes.shape[:2]
    grids = [pool(size=size).reshape(b, r, size**2, -1) for size in bins]
    return jnp.concatenate(grids, axis=2)


def round_half_away(x: Float[Array, "*n"]) -> Int[Array, "*n"]:
    """Rounds to the nearest integer; halves away from zero, as in C."""
    return (jnp.sign(x) * jnp.floor(jnp.abs(x) + 0.5)).astype(jnp.int32)


def _bins(
    low: Float[Array, "b s"], high: Float[Array, "b s"], settings: _Settings, length: int
) -> _Bins:
    """The bins of boxes from `low` to `high`, in cells."""
    if settings.rounding == "fast_rcnn":
        first, last = round_half_away(low), round_half_away(high)
    else:
        first = jnp.floor(low + 0.5).astype(jnp.int32)
        last = jnp.ceil(high - 0.5).astype(jnp.int32)
        middle = (first + last) // 2
        none = first > last
        first, last = jnp.where(none, middle, first), jnp.where(none, middle, last)
        first, last = jnp.clip(first, 0, length - 1), jnp.clip(last, 0, length - 1)
    count = jnp.maximum(last - first + 1, 1)[..., None]
    i, p = jnp.arange(settings.size), settings.size
    edges = first[..., None] + i * count // p, first[..., None] - (-(i + 1) * count // p)
    return _Bins(*(jnp.clip(edge, 0, length) for edge in edges))


class _Cells(NamedTuple):
    """The cells of the bins of a chunk's boxes."""

    rows: _Bins
    columns: _Bins
    width: int  # columns of the map

    @property
    def turns(self) -> Int[Array, ""]:
        """Cells of the longest rows and columns of a bin."""
        return self.rows.turns * self.columns.turns

    def at(self, turn: Int[Array, ""]) -> tuple[Int[Array, "b s p p"], Bool[Array, "b s p p 1"]]:
        """A cell of every bin: its row in the table, and False if the bin has no further cell."""
        row = (self.rows.first + turn // self.columns.turns)[..., :, None]
        column = (self.columns.first + turn % self.columns.turns)[..., None, :]
        inside = (row < self.rows.last[..., None]) & (column < self.columns.last[..., None, :])
        return row * self.width + column, inside[..., None]


def _cells(settings: _Settings, level: int, boxes: Float[Array, "b s 4"]) -> _Cells:
    """The cells of the bins of boxes in the map of a level."""
    left, top, right, bottom = jnp.unstack(boxes / settings.strides[level], axis=-1)
    rows, columns = settings.grids[level]
    return _Cells(
        _bins(top, bottom, settings, rows), _bins(left, right, settings, columns), columns
    )


def _largest(
    settings: _Settings,
    tables: tuple[Float[Array, "b _ c"], ...],
    boxes: Float[Array, "b r 4"],
    levels: Int[Array, "b r"],
) -> Float[Array, "b r p p c"]:
    """The largest values of all bins."""
    c = tables[0].shape[-1]
    pooled = jnp.zeros((*levels.shape, settings.size, settings.size, c), tables[0].dtype)
    visit = functools.partial(_pool_chunk, settings, tables, boxes)
    return plan(levels, len(tables), settings.size**2 * c).pool(visit, pooled)


def _pool_chunk(
    settings: _Settings,
    tables: tuple[Float[Array, "b _ c"], ...],
    boxes: Float[Array, "b r 4"],
    level: int,
    chunk: Chunk,
    pooled: Float[Array, "b r p p c"],
) -> Float[Array, "b r p p c"]:
    """Writes the largest values of a chunk of regions, which belong to one level."""
    cells, table = _cells(settings, level, chunk.take(boxes)), tables[level]

    def compare(turn: Int[Array, ""], largest: Array) -> Array:
        index, inside = cells.at(turn)
        values = jax.vmap(lambda rows, i: rows[i])(table, index)
        return jnp.where(inside, jnp.maximum(values, largest), largest)

    start = jnp.full((*chunk.rows.shape, *pooled.shape[2:]), -jnp.inf, table.dtype)
    largest = jax.lax.fori_loop(0, cells.turns, compare, start)
    return chunk.put(pooled, jnp.where(largest == -jnp.inf, 0, largest))


def _largest_forward(
    settings: _Settings, tables: tuple[Array, ...], boxes: Array, levels: Array
) -> tuple[Array, tuple]:
    """What the gradient needs: the largest values, to find the cells that have them."""
    pooled = _largest(settings, tables, boxes, levels)
    return pooled, (tables, boxes, levels, pooled)


def _largest_backward(
    settings: _Settings, kept: tuple, gradient: Array
) -> tuple[tuple[Array, ...], None, None]:
    """The gradient of the maps: that of a bin goes to the first cell with its largest value."""
    tables, boxes, levels, pooled = kept
    work = plan(levels, len(tables), settings.size**2 * gradient.shape[-1])
    visit = functools.partial(_spread_chunk, settings, tables, boxes, pooled, gradient)
    return work.spread(visit, tables), None, None


def _spread_chunk(
    settings: _Settings,
    tables: tuple[Float[Array, "b _ c"], ...],
    boxes: Float[Array, "b r 4"],
    pooled: Float[Array, "b r p p c"],
    gradient: Float[Array, "b r p p c"],
    level: int,
    chunk: Chunk,
    spread: Float[Array, "b hw c"],
) -> Float[Array, "b hw c"]:
    """Adds the gradients of a chunk of regions to the gradient of their map."""
    cells, table = _cells(settings, level, chunk.take(boxes)), tables[level]
    largest, values = chunk.take(pooled), chunk.take(gradient).astype(spread.dtype)

    def add(turn: Int[Array, ""], state: tuple[Array, Array]) -> tuple[Array, Array]:
        spread, waiting = state
        index, inside = cells.at(turn)
        hit = waiting & inside & (jax.vmap(lambda rows, i: rows[i])(table, index) == largest)
        part = jnp.where(hit, values, 0)
        spread = jax.vmap(lambda rows, i, x: rows.at[i].add(x))(spread, index, part)
        return spread, waiting & ~hit

    waiting = jnp.ones(largest.shape, bool)
    return jax.lax.fori_loop(0, cells.turns, add, (spread, waiting))[0]


_pool = jax.custom_vjp(_largest, nondiff_argnums=(0,))
_pool.defvjp(_largest_forward, _largest_backward)
