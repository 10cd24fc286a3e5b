"""The extreme points of objects, from their masks (ExtremeNet, arXiv 1901.08043, section 4.1)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8

_FULL = 255  # of a cell of a mask that is given on a grid over the object's box


def extreme_points(
    masks: Bool[Array, "*b h w"] | UInt8[Array, "*b h w"],
    frames: Float[Array, "*b 4"] | None = None,
    share: float = 0.02,
) -> Float[Array, "*b 4 2"]:
    """The topmost, leftmost, bottommost and rightmost point of each object, x and y in pixels.

    Of several pixels that are almost as far up as the topmost one, as along a straight edge, the
    middle of the leftmost and the rightmost is taken; for the other points likewise.

    Deviation: the authors look at the corners of polygons, from the topmost one in both directions
    as long as they are almost as far up; we look at all pixels of the mask.

    >>> mask = jnp.zeros((6, 8), bool).at[1, 4:6].set(True).at[2:5, 2:7].set(True)
    >>> extreme_points(mask).tolist()
    [[5.0, 1.0], [2.0, 3.5], [4.5, 5.0], [7.0, 3.5]]

    Args:
        masks: True for the pixels of an object; or its cells in `frames`, as numbers of 0..255, of
            which at least a half counts as the object's.
        frames: The box that each mask shows, ``xyxy``; None: masks show whole images.
        share: How much lower than the topmost one "almost as far up" is, as a share of the object's
            height.

    Returns:
        Four points of each object; an object without pixels has meaningless ones.
    """
    inside = masks if masks.dtype == bool else masks > _FULL // 2
    rows, columns = inside.shape[-2:]
    upright = _first_and_last(inside, share)
    lying = _first_and_last(inside.swapaxes(-2, -1), share)
    (top, bottom), (top_x, bottom_x) = upright
    (left, right), (left_y, right_y) = lying
    points = [(top_x, top), (left, left_y), (bottom_x, bottom), (right, right_y)]
    found = jnp.stack([jnp.stack(point, axis=-1) for point in points], axis=-2)
    if frames is None:
        return found
    origin, end = frames[..., None, :2], frames[..., None, 2:]
    return origin + found / jnp.array([columns, rows]) * (end - origin)


_Ends = tuple[Float[Array, "*b"], Float[Array, "*b"]]


def _first_and_last(inside: Bool[Array, "*b h w"], share: float) -> tuple[_Ends, _Ends]:
    """The upper and lower ends of objects along the rows, and the middle of their columns there."""
    rows = inside.any(axis=-1)
    h, w = inside.shape[-2:]
    first = jnp.argmax(rows, axis=-1)
    last = h - 1 - jnp.argmax(rows[..., ::-1], axis=-1)
    near = share * (last - first + 1)
    index = jnp.arange(h)
    at_ends = (
        index - first[..., None] <= near[..., None],
        last[..., None] - index <= near[..., None],
    )
    middles = []
    for close in at_ends:
        columns = (inside & close[..., None]).any(axis=-2)
        left = jnp.argmax(columns, axis=-1)
        right = w - jnp.argmax(columns[..., ::-1], axis=-1)
        middles.append((left + right) / 2)
    return (first.astype(jnp.float32), last + 1.0), (middles[0], middles[1])
