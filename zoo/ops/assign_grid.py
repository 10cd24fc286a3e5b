"""Which objects belong to which cells and anchors of grids, as the YOLO detectors have it."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from zoo.ops import boxes as box_ops
from zoo.ops.grid_anchors import GridAnchors


def shape_iou(
    sizes: Float[Array, "*b m 2"], anchors: Float[Array, "n 2"]
) -> Float[Array, "*b m n"]:
    """The IoU of boxes that have the same centre, from their widths and heights, above 0."""
    shared = jnp.minimum(sizes[..., None, :], anchors).prod(axis=-1)
    return shared / (sizes.prod(axis=-1)[..., None] + anchors.prod(axis=-1) - shared)


def assign_by_shape(
    grid: GridAnchors,
    shapes: Sequence[tuple[int, int]],
    boxes: Float[Array, "b m 4"],
    valid: Bool[Array, "b m"],
) -> tuple[Int[Array, "b a"], Bool[Array, "b a"], Float[Array, "b m"]]:
    """Each object belongs to one anchor: that of the best shape, in the cell of its centre.

    Of the anchors of all levels, the one with the largest `shape_iou` decides about the level and
    the anchor; of equal ones it is the first. If two objects belong to the same anchor, the later
    one has it (darknet: `forward_region_layer` and `forward_yolo_layer`).

    Args:
        grid: The anchors.
        shapes: Rows and columns of each level.
        boxes: The objects, ``xyxy`` in pixels.
        valid: False for padding.

    Returns:
        The object of each anchor, 0 where there is none; whether there is one; and the `shape_iou`
        of each object with its anchor.
    """
    low, high = jnp.split(boxes, 2, axis=-1)
    overlap = shape_iou(high - low, jnp.asarray(grid.flat_sizes()))
    best = overlap.argmax(axis=-1)  # b m

    counts = grid.num_per_cell
    sizes = [rows * columns * n for (rows, columns), n in zip(shapes, counts, strict=True)]
    of_anchor = [  # the level's first slot, anchors of a cell, rows, columns, stride; its number
        (start, n, *shape, stride, k)
        for start, n, shape, stride in zip(
            np.cumsum([0, *sizes])[:-1].tolist(), counts, shapes, grid.strides, strict=True
        )
        for k in range(n)
    ]
    table = jnp.moveaxis(jnp.array(of_anchor, jnp.int32)[best], -1, 0)  # 6 b m
    start, count, rows, columns, stride, number = table
    cell = jnp.floor((low + high) / 2 / stride[..., None]).astype(jnp.int32)  # x, y
    column, row = jnp.clip(cell[..., 0], 0, columns - 1), jnp.clip(cell[..., 1], 0, rows - 1)
    slot = start + (row * columns + column) * count + number
    return *take_slots(slot, valid, sum(sizes)), overlap.max(axis=-1)


def take_slots(
    slot: Int[Array, "b m"], valid: Bool[Array, "b m"], count: int
) -> tuple[Int[Array, "b a"], Bool[Array, "b a"]]:
    """The last object of each of `count` slots, 0 where there is none, and whether there is one.

    Args:
        slot: Of each object.
        valid: False for padding.
        count: Number of slots.
    """
    b, m = slot.shape
    slot = jnp.where(valid, slot, count)
    owner = jnp.full((b, count), -1, jnp.int32)
    owner = owner.at[jnp.arange(b)[:, None], slot].max(jnp.arange(m, dtype=jnp.int32), mode="drop")
    return jnp.maximum(owner, 0), owner >= 0


def assign_by_cell_iou(
    anchors: Float[Array, "b a 4"],
    strides: Float[Array, "a 1"],
    boxes: Float[Array, "b m 4"],
    valid: Bool[Array, "b m"],
    threshold: float = 0.5,
) -> tuple[Int[Array, "b a"], Int[Array, "b a"]]:
    """The rule of mmdet's `GridAssigner`: anchors in cells with a centre, by their IoU.

    Only anchors in cells in which the centre of some object is can be positive: each with an IoU
    above the threshold, for the object that it overlaps most; and for each object those that
    overlap it most, whatever the IoU above 0, the later object before the earlier one. All others
    are negative if no IoU is above the threshold, else they do not count.

    Args:
        anchors: ``xyxy`` in pixels, in the middle of their cells.
        strides: Height and width of the cell of each anchor.
        boxes: The objects, ``xyxy`` in pixels.
        valid: False for padding.
        threshold: Of the IoU.

    Returns:
        The object of each anchor, and 1 for positive, 0 for negative, -1 for neither.
    """
    if boxes.shape[1] == 0:
        none = jnp.zeros(anchors.shape[:2], jnp.int32)
        return none, none
    centre, truth = ((x[..., :2] + x[..., 2:]) / 2 for x in (anchors, boxes))
    cell = jnp.floor(centre / strides)[:, None]  # b 1 a 2
    hit = (jnp.floor(truth[:, :, None] / strides) == cell).all(axis=-1) & valid[..., None]
    inside = hit.any(axis=1)  # b a
    iou = jnp.where(valid[..., None], box_ops.iou(boxes, anchors), -1.0)  # b m a
    label = jnp.where(iou.max(axis=1) <= threshold, 0, -1)

    iou = jnp.where(inside[:, None], iou, -1.0)
    match = iou.argmax(axis=1)
    label = jnp.where(iou.max(axis=1) > threshold, 1, label)
    most = iou.max(axis=2, keepdims=True)
    best = (iou == most) & (most > 0) & inside[:, None]
    last = jnp.where(best, jnp.arange(boxes.shape[1])[:, None], -1).max(axis=1)
    return jnp.where(last >= 0, last, match), jnp.where(last >= 0, 1, label)
