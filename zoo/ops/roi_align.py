"""RoIAlign over all levels of a feature pyramid at once, with static shapes (arXiv 1703.06870).

The values are those of torchvision's, detectron2's and mmcv's operator, for boxes beyond the map as
well. As there, no gradient flows to the boxes.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from zoo.ops import boxes as box_ops
from zoo.ops.roi_chunks import MAPS, Chunk, Plan, flatten, levels_of, plan, sizes_of
from zoo.ops.roi_samples import AxisSamples, axis_samples


def assign_levels(
    boxes: Float[Array, "*b 4"],
    min_level: int,
    max_level: int,
    *,
    canonical_size: int | float = 224,
    canonical_level: int = 4,
    level_epsilon: float = 1e-6,
    ratio_epsilon: float = 0.0,
) -> Int[Array, "*b"]:
    """The level of the pyramid that each box is pooled from (arXiv 1612.03144, equation 1).

    ``floor(canonical_level + log2(sqrt(area) / canonical_size + ratio_epsilon) + level_epsilon)``,
    between the first and the last level. The defaults are torchvision's. detectron2 has
    ``level_epsilon=0.0, ratio_epsilon=1e-8``; mmdet ``canonical_size=56,
    canonical_level=min_level, level_epsilon=0.0, ratio_epsilon=1e-6``.

    >>> assign_levels(jnp.array([[0.0, 0.0, 224.0, 224.0], [0.0, 0.0, 9.0, 9.0]]), 2, 5).tolist()
    [2, 0]

    Args:
        boxes: ``xyxy`` in pixels of the image; a degenerate one gets the first level.
        min_level: The first level of the maps: their stride is 2 to this power.
        max_level: The last level.
        canonical_size: Side in pixels of a square that belongs to the canonical level.
        canonical_level: Its level.
        level_epsilon: See above.
        ratio_epsilon: See above.

    Returns:
        Number of the map: the level minus `min_level`.
    """
    ratio = jnp.sqrt(box_ops.area(boxes)) / canonical_size + ratio_epsilon
    level = jnp.floor(canonical_level + jnp.log2(ratio) + level_epsilon)
    return jnp.clip(level, min_level, max_level).astype(jnp.int32) - min_level


_Corner = tuple[Int[Array, "b s p p"], Float[Array, "b s p p 1"]]


class _Samples(NamedTuple):
    """Where the boxes of a chunk are sampled in a map."""

    rows: AxisSamples
    columns: AxisSamples

    @property
    def turns(self) -> int | Int[Array, ""]:
        """How many samples of a bin have to be visited."""
        return self.rows.turns * self.columns.turns

    @property
    def share(self) -> Float[Array, "b s 1 1 1"]:
        """Share of a sample in the mean of its bin."""
        number = jnp.maximum(self.rows.count * self.columns.count, 1)
        return (1 / number)[..., None, None, None]

    def corners(self, turn: int | Int[Array, ""]) -> list[_Corner]:
        """The four cells around a sample of every bin: their rows in the table, and weights."""
        rows, row_weights = self.rows.cells(turn // self.columns.turns)
        columns, column_weights = self.columns.cells(turn % self.columns.turns)
        return [
            (
                rows[..., :, None, i] * self.columns.length + columns[..., None, :, j],
                (row_weights[..., :, None, i] * column_weights[..., None, :, j])[..., None],
            )
            for i in (0, 1)
            for j in (0, 1)
        ]


class _Settings(NamedTuple):
    """What does not depend on the data."""

    strides: tuple[float, ...]
    size: int
    ratio: int
    aligned: bool
    grids: tuple[tuple[int, int], ...]  # rows and columns of the maps

    def plan(self, boxes: Float[Array, "b r 4"], levels: Int[Array, "b r"], c: int) -> Plan:
        """Chunks of boxes with about as many samples, if their number differs."""
        work = None
        if not self.ratio:
            strides = jnp.array(self.strides)[jnp.clip(levels, 0, len(self.strides) - 1)]
            cells = (boxes[..., 2:] - boxes[..., :2]) / strides[..., None]
            work = jnp.ceil(jnp.clip(cells, 0, 2**15) / self.size).prod(axis=-1).astype(jnp.int32)
        return plan(levels, len(self.grids), self.size**2 * c, work)

    def samples(self, level: int, boxes: Float[Array, "b s 4"]) -> _Samples:
        """Samples of the boxes in the map of a level."""
        left, top, right, bottom = jnp.unstack(boxes / self.strides[level], axis=-1)
        rows, columns = self.grids[level]
        rules = {"bins": self.size, "sampling_ratio": self.ratio, "aligned": self.aligned}
        return _Samples(
            axis_samples(top, bottom, length=rows, **rules),
            axis_samples(left, right, length=columns, **rules),
        )


def roi_align(
    maps: MAPS,
    boxes: Float[Array, "b r 4"],
    levels: Int[Array, "b r"] | None = None,
    *,
    strides: Sequence[int | float],
    size: int,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Float[Array, "b r size size c"]:
    """Pools every box into a grid of bins, each the mean of bilinear samples.

    Memory in float32: the output, and less than 30 MB for each image, for the gradient as well.

    >>> ramp = jnp.broadcast_to(jnp.arange(8.0)[:, None], (1, 8, 8, 1))
    >>> boxes = jnp.array([[[8.0, 8.0, 24.0, 24.0]]])
    >>> roi_align([ramp], boxes, strides=[4.0], size=2)[0, 0, 0, :, 0].tolist()
    [2.5, 4.5]

    Args:
        maps: Feature maps, with any number of rows and columns.
        boxes: ``xyxy`` in pixels of the image.
        levels: Number of the map that each box is pooled from, as from `assign_levels`; a box with
            a number that no map has, such as -1, gives zeros and takes no time. By default all are
            pooled from the first map.
        strides: Pixels of the image in a cell, for each map.
        size: Bins in a row and a column of the grid.
        sampling_ratio: Samples along each side of a bin. 0: as many as a bin has cells, rounded up,
            for each box; exact for boxes of any size. torchvision's heads have 2, detectron2 and
            mmdet 0.
        aligned: Whether the centre of the first cell is at half a stride, as in detectron2 and
            mmdet. False is the older form, of torchvision's heads: it is at 0, and a box is at
            least a cell wide and high.

    Returns:
        The pooled features, in the dtype of the maps; sums are in float32. A bin without samples,
        because its box has no width or height and the ratio is 0, is 0, and so is a sample more
        than a cell beyond the map.

    Raises:
        ValueError: If there is not one stride for each map.
    """
    levels = levels_of(maps, boxes, levels, strides)
    c = maps[0].shape[-1]
    if 0 in (*boxes.shape[:2], c):
        return jnp.zeros((*boxes.shape[:2], size, size, c), maps[0].dtype)
    strides = tuple(map(float, strides))
    settings = _Settings(strides, size, sampling_ratio, aligned, sizes_of(maps))
    return _pool(settings, tuple(map(flatten, maps)), boxes, levels)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pool(
    settings: _Settings,
    tables: tuple[Float[Array, "b _ c"], ...],
    boxes: Float[Array, "b r 4"],
    levels: Int[Array, "b r"],
) -> Float[Array, "b r p p c"]:
    """The pooled features."""
    c = tables[0].shape[-1]
    pooled = jnp.zeros((*levels.shape, settings.size, settings.size, c), tables[0].dtype)
    visit = functools.partial(_pool_chunk, settings, tables, boxes)
    return settings.plan(boxes, levels, c).pool(visit, pooled)


def _pool_chunk(
    settings: _Settings,
    tables: tuple[Float[Array, "b _ c"], ...],
    boxes: Float[Array, "b r 4"],
    level: int,
    chunk: Chunk,
    pooled: Float[Array, "b r p p c"],
) -> Float[Array, "b r p p c"]:
    """Writes the features of a chunk of regions, which belong to one level."""
    samples, table = settings.samples(level, chunk.take(boxes)), tables[level]

    def add(turn: int | Int[Array, ""], total: Array) -> Array:
        for index, weight in samples.corners(turn):
            total += weight * jax.vmap(lambda rows, i: rows[i])(table, index)
        return total

    shape = (*chunk.rows.shape, *pooled.shape[2:])
    start = jnp.zeros(shape, jnp.promote_types(table.dtype, jnp.float32))
    total = jax.lax.fori_loop(0, samples.turns, add, start)
    return chunk.put(pooled, total * samples.share)


def _pool_forward(
    settings: _Settings, tables: tuple[Array, ...], boxes: Array, levels: Array
) -> tuple[Array, tuple[Array, Array]]:
    """What the gradient needs: the boxes only, for the features are linear in the maps."""
    return _pool(settings, tables, boxes, levels), (boxes, levels)


def _pool_backward(
    settings: _Settings, boxes_and_levels: tuple[Array, Array], gradient: Array
) -> tuple[tuple[Array, ...], None, None]:
    """The gradient of the maps: every sample's gradient is added to the four cells around it."""
    boxes, levels = boxes_and_levels
    b, c = boxes.shape[0], gradient.shape[-1]
    tables = [jax.ShapeDtypeStruct((b, h * w, c), gradient.dtype) for h, w in settings.grids]
    visit = functools.partial(_spread_chunk, settings, gradient, boxes)
    return settings.plan(boxes, levels, c).spread(visit, tables), None, None


def _spread_chunk(
    settings: _Settings,
    gradient: Float[Array, "b r p p c"],
    boxes: Float[Array, "b r 4"],
    level: int,
    chunk: Chunk,
    table: Float[Array, "b hw c"],
) -> Float[Array, "b hw c"]:
    """Adds the gradients of a chunk of regions to the gradient of their map."""
    samples = settings.samples(level, chunk.take(boxes))
    values = chunk.take(gradient).astype(table.dtype) * samples.share

    def add(turn: int | Int[Array, ""], table: Array) -> Array:
        for index, weight in samples.corners(turn):
            table = jax.vmap(lambda rows, i, x: rows.at[i].add(x))(table, index, weight * values)
        return table

    return jax.lax.fori_loop(0, samples.turns, add, table)


_pool.defvjp(_pool_forward, _pool_backward)
