"""Warps regions of images to squares of one size, as R-CNN does before its network.

R-CNN (arXiv 1311.2524, appendix A) and its code, https://github.com/rbgirshick/rcnn, function
`rcnn_im_crop`. Deviation: the box with its context ends where it should; that of the authors has
one more column on the right and one more row below.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class _Axis(NamedTuple):
    """The pixels of an image that the rows, or the columns, of the warped regions come from.

    Attributes:
        low: The pixel before each place.
        high: The pixel after it; both are within the region and the image.
        share: Weight of `high`; that of `low` is the rest.
        inside: False for places outside the image.
    """

    low: Int[Array, "r s"]
    high: Int[Array, "r s"]
    share: Float[Array, "r s"]
    inside: Bool[Array, "r s"]


def warp_regions(
    images: Float[Array, "b h w c"],
    boxes: Float[Array, "r 4"],
    image: Int[Array, " r"],
    sizes: Int[Array, "b 2"],
    *,
    size: int,
    context: float = 16 / 227,
) -> Float[Array, "r size size c"]:
    """The regions with some context, each stretched to a square.

    A box is enlarged around its centre and rounded to whole pixels. The part of it inside the
    image is resized bilinearly without antialiasing (OpenCV's ``INTER_LINEAR``) to its share of the
    square, in whole pixels; the rest of the square is 0, the mean of normalised images.

    >>> images = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> boxes, image = jnp.array([[1.0, 1.0, 3.0, 3.0]]), jnp.array([0])
    >>> sizes = jnp.array([[4, 4]])
    >>> warp_regions(images, boxes, image, sizes, size=2, context=0.0).ravel().tolist()
    [5.0, 6.0, 9.0, 10.0]
    >>> warp_regions(images, boxes, image, sizes, size=4, context=0.25)[0, 0, :, 0].tolist()
    [0.0, 1.0, 2.0, 3.0]

    Args:
        images: Normalised images.
        boxes: ``xyxy`` in pixels; no gradient flows to them. One without width or height is a
            pixel wide or high.
        image: The number of each box's image.
        sizes: Height and width of each image without padding: the padding is outside.
        size: Rows and columns of the result.
        context: Width of the margin around the box in the square, as a share of its side.
    """
    boxes = jax.lax.stop_gradient(boxes)
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = half / (1 - 2 * context)
    low, high = (jnp.floor(x + 0.5).astype(jnp.int32) for x in (middle - half, middle + half))
    limits = sizes[image]
    columns, rows = (_axis(low[:, i], high[:, i], limits[:, 1 - i], size) for i in (0, 1))
    flat = images.reshape(-1, images.shape[-1])
    start = image * (images.shape[1] * images.shape[2])

    def at(row: Int[Array, "r s"], column: Int[Array, "r s"]) -> Float[Array, "r s s c"]:
        place = row[:, :, None] * images.shape[2] + column[:, None, :]
        return flat[start[:, None, None] + place]

    right, below = columns.share[:, None, :, None], rows.share[:, :, None, None]
    upper, lower = (
        (1 - right) * at(row, columns.low) + right * at(row, columns.high)
        for row in (rows.low, rows.high)
    )
    inside = rows.inside[:, :, None, None] & columns.inside[:, None, :, None]
    return jnp.where(inside, (1 - below) * upper + below * lower, 0).astype(images.dtype)


def _axis(
    low: Int[Array, " r"], high: Int[Array, " r"], limit: Int[Array, " r"], size: int
) -> _Axis:
    """Where the places of the squares along one axis are in the images.

    Args:
        low: First pixel of each region, which may be outside the image.
        high: The pixel after its last one.
        limit: Pixels of the image.
        size: Number of places.
    """
    high = jnp.maximum(high, low + 1)
    first, last = jnp.clip(low, 0, limit - 1), jnp.clip(high, 1, limit)
    last = jnp.maximum(last, first + 1)
    scale = size / (high - low)
    before = _rounded((first - low) * scale)
    count = jnp.minimum(_rounded((last - first) * scale), size - before)
    steps = jnp.arange(size) - before[:, None]
    part = jnp.maximum(count, 1)[:, None]
    place = (steps + 0.5) * ((last - first)[:, None] / part) - 0.5
    place = jnp.clip(place, 0, (last - first - 1)[:, None])
    below = jnp.floor(place).astype(jnp.int32)
    inside = (steps >= 0) & (steps < count[:, None])
    share = (place - below).astype(jnp.float32)
    low_pixel = first[:, None] + below
    return _Axis(low_pixel, jnp.minimum(low_pixel + 1, last[:, None] - 1), share, inside)


def _rounded(x: Float[Array, " r"]) -> Int[Array, " r"]:
    """The nearest integers to numbers from 0 on; a half is rounded up."""
    return jnp.floor(x + 0.5).astype(jnp.int32)
