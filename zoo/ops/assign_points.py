"""Assigns the objects of an image to points by their size and place (FCOS, arXiv 1904.01355).

A point is positive if it is inside an object, whose size the point's level is responsible for; of
several objects, it takes the one with the least area. In the improved version (arXiv 2006.09214,
section 3.1) it must also be near the centre of the object. The objects are taken one after another,
as in `zoo.ops.assign`.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from zoo.ops import boxes as box_ops

_State = tuple[Float[Array, "*b n"], Int[Array, "*b n"]]


@dataclasses.dataclass(frozen=True)
class PointRule:
    """Which points are positive.

    | implementation | settings |
    | --- | --- |
    | torchvision, detectron2 | ``radius=1.5, closed=False`` |
    | tianzhi0549/FCOS, mmdet | ``radius=None`` or ``1.5``, ``closed=True`` |

    Attributes:
        radius: Largest distance from a positive point to the object's centre, in x and in y, as a
            multiple of the level's stride; a point at this distance is not positive. None: all
            points of the object are positive.
        closed: Whether an object whose size is a limit of a level belongs to this level, and so to
            two levels; else it belongs to none.
    """

    radius: float | None = 1.5
    closed: bool = False


def level_ranges(
    level_sizes: Sequence[int], limits: Sequence[float]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The least and largest size of the objects of each point.

    >>> [part.tolist() for part in level_ranges((2, 1), (64.0,))]
    [[0.0, 0.0, 64.0], [64.0, 64.0, inf]]

    Args:
        level_sizes: Number of points of each level, finest first.
        limits: Sizes in pixels at which one level ends and the next begins.

    Raises:
        ValueError: If there is not one limit between two levels.
    """
    if len(limits) != len(level_sizes) - 1:
        raise ValueError(f"{len(level_sizes)} levels need one limit less, got {limits}")
    edges = zip(*itertools.pairwise((0.0, *limits, np.inf)), strict=True)
    low, high = (np.repeat(np.array(sides, np.float32), level_sizes) for sides in edges)
    return low, high


def assign_points(
    anchors: Float[Array, "*b n 4"],
    ranges: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]],
    truth: Float[Array, "*b m 4"],
    rule: PointRule,
    *,
    truth_valid: Bool[Array, "*b m"],
) -> tuple[Int[Array, "*b n"], Bool[Array, "*b n"]]:
    """The object of each point, and whether it has one. Not differentiable.

    >>> anchors = jnp.array([[0.0, 0, 8, 8], [0, 0, 16, 16]])
    >>> truth, valid = jnp.array([[0.0, 0, 10, 9], [0, 0, 40, 40]]), jnp.array([True, True])
    >>> rule, ranges = PointRule(radius=None), level_ranges((1, 1), (20.0,))
    >>> [part.tolist() for part in assign_points(anchors, ranges, truth, rule, truth_valid=valid)]
    [[0, 1], [True, True]]

    Args:
        anchors: Squares around the points, whose side is the stride of the level, ``xyxy``.
        ranges: From `level_ranges`. The size of an object, for a point, is the largest distance
            from the point to one of its sides.
        truth: Objects, ``xyxy`` in the same unit.
        rule: The conditions.
        truth_valid: False for padded objects.

    Returns:
        Index of the object, of those of equal area the first; 0 if there is none. And True for
        positive points.
    """
    anchors, truth = jax.lax.stop_gradient((anchors, truth))
    points, side = (anchors[..., :2] + anchors[..., 2:]) / 2, anchors[..., 2] - anchors[..., 0]
    x, y = points[..., 0], points[..., 1]
    low, high = ranges

    def take_object(j: Int[Array, ""], state: _State) -> _State:
        least, match = state
        box = jax.lax.dynamic_slice_in_dim(truth, j, 1, -2)  # *b 1 4
        left, top, right, bottom = jnp.unstack(box, axis=-1)
        distances = jnp.stack([x - left, y - top, right - x, bottom - y])
        size = distances.max(axis=0)
        good = (distances.min(axis=0) > 0) & jax.lax.dynamic_slice_in_dim(truth_valid, j, 1, -1)
        good &= (size >= low) & (size <= high) if rule.closed else (size > low) & (size < high)
        if rule.radius is not None:
            apart = jnp.maximum(jnp.abs(x - (left + right) / 2), jnp.abs(y - (top + bottom) / 2))
            good &= apart < rule.radius * side
        area = jnp.where(good, box_ops.area(box), jnp.inf)
        return jnp.minimum(area, least), jnp.where(area < least, j, match)

    shape = anchors.shape[:-1]
    count = jnp.where(truth_valid, jnp.arange(1, truth.shape[-2] + 1), 0).max(initial=0)
    start = jnp.full(shape, jnp.inf, anchors.dtype), jnp.zeros(shape, jnp.int32)
    if truth.shape[-2] == 0:
        return start[1], jnp.zeros(shape, bool)
    least, match = jax.lax.fori_loop(0, count, take_object, start)
    return match, jnp.isfinite(least)
