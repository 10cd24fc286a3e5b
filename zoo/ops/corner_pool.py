"""Corner pooling (CornerNet, arXiv 1808.01244, section 3.2 and figure 6).

A corner of a box has no local evidence: the object is to its right and below it, or to its left and
above it. So every pixel gets the largest value that is found from it in one direction.
"""

from typing import Literal

import jax
from jaxtyping import Array, Float

from zoo.types import check_choice

Direction = Literal["top", "left", "bottom", "right"]
# Direction -> axis of the maximum, and whether it runs from the last pixel to the first.
_RUNS = {"top": (1, True), "left": (2, True), "bottom": (1, False), "right": (2, False)}


def corner_pool(x: Float[Array, "b h w c"], direction: Direction) -> Float[Array, "b h w c"]:
    """The running maximum of a map along rows or columns, the same as mmcv's ``CornerPool``.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([2.0, 0, 3, 1]).reshape(1, 1, 4, 1)
    >>> corner_pool(x, "left").ravel().tolist()
    [3.0, 3.0, 3.0, 1.0]

    Args:
        x: Feature maps.
        direction: The side of an object that the pool looks for. ``top``: a pixel gets the maximum
            of itself and the pixels below it. ``left``: of those on its right. ``bottom``: of those
            above it. ``right``: of those on its left.

    Raises:
        ValueError: If there is no such direction.
    """
    check_choice("direction", direction, Direction)
    axis, reverse = _RUNS[direction]
    return jax.lax.cummax(x, axis=axis, reverse=reverse)
