"""Edge aggregation (ExtremeNet, arXiv 1901.08043, section 4.2 and figure 4).

A straight edge of an object has no single extreme point: a heat map then has many weak answers
along the edge. Aggregation adds them to the best one.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from zoo.types import check_choice

Axis = Literal["rows", "columns"]
_Run = tuple[Float[Array, "..."], Float[Array, "..."]]


def aggregate_edges(
    heat: Float[Array, "b h w k"], along: Axis, weight: float = 0.1
) -> Float[Array, "b h w k"]:
    """Adds to each value a share of the values that rise monotonically to it, from both sides.

    It agrees with the authors' ``_h_aggregate`` (along columns, for points on upper and lower
    edges) and ``_v_aggregate`` (along rows).

    >>> row = jnp.array([1.0, 3, 2, 2, 1]).reshape(1, 1, 5, 1)
    >>> aggregate_edges(row, "columns", 0.5).ravel().tolist()
    [1.0, 6.0, 3.5, 3.5, 1.0]

    Args:
        heat: Scores, at least 0.
        along: The axis: from row to row or from column to column.
        weight: The share.

    Raises:
        ValueError: If there is no such axis.
    """
    check_choice("along", along, Axis)
    axis = 1 if along == "rows" else 2
    sides = [_risen(heat, axis, reverse=reverse) for reverse in (False, True)]
    return heat + weight * (sides[0] + sides[1])


def _risen(heat: Float[Array, "b h w k"], axis: int, *, reverse: bool) -> Float[Array, "b h w k"]:
    """The sum of the values on the way to each value, as long as they do not fall."""
    if reverse:
        heat = jnp.flip(heat, axis)
    before = jnp.roll(heat, 1, axis)
    first = jax.lax.broadcasted_iota(jnp.int32, heat.shape, axis) == 0
    rises = (~first & (heat >= before)).astype(heat.dtype)

    def join(one: _Run, other: _Run) -> _Run:
        """Of two neighbouring stretches: whether all rise, and the sum that arrives at the end."""
        return one[0] * other[0], other[1] + other[0] * one[1]

    total = jax.lax.associative_scan(join, (rises, heat), axis=axis)[1] - heat
    return jnp.flip(total, axis) if reverse else total
