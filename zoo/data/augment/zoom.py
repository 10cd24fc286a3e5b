"""Squares of random scale and place, as CornerNet and CenterNet are trained on.

CornerNet, arXiv 1808.01244, section 4.1; the authors' code of both has the numbers.
"""

import numpy as np

from zoo.data.augment.picture import Picture, clip_objects, crop, pad, resize_picture

_BORDER = 128  # the least distance of a square's centre from the border of the image, in pixels
_BLACK = (0, 0, 0)


def random_zoom(
    picture: Picture, side: int, scales: tuple[float, float], rng: np.random.Generator
) -> Picture:
    """Takes a square part of a picture, resized to `side`; black where it is outside the image.

    In the image, its side is that of the longer side times a number between the two `scales`. Its
    centre is at least 128 px from the image's border, or half as many and so on if the image is too
    small. Objects whose box is outside the part are dropped.

    Args:
        picture: An image with its objects.
        side: Height and width of the result.
        scales: The least and the largest side of the part, as shares of the image's longer side.
        rng: Draws the scale and the place.

    Raises:
        ValueError: If there are `mask_crops`: those of cut boxes would be wrong.
    """
    height, width = picture.size
    zoom = side / (max(height, width) * rng.uniform(*scales))
    centre = [_draw_centre(have, rng) * zoom for have in (height, width)]
    size = max(1, round(height * zoom)), max(1, round(width * zoom))
    picture = resize_picture(picture, size, fast=True)
    starts = [round(x - side / 2) for x in centre]
    spans = [_inside(start, side, have) for start, have in zip(starts, size, strict=True)]
    (top, rows), (left, columns) = spans
    picture = crop(picture, top, left, rows, columns)
    above, before = max(0, -starts[0]), max(0, -starts[1])
    return clip_objects(pad(picture, above, before, (side, side), _BLACK, ignore_label=0))


def _draw_centre(have: int, rng: np.random.Generator) -> float:
    """A place along an axis of length `have`, at least a border away from both ends."""
    border = float(_BORDER)
    while have <= 2 * border:
        border /= 2
    return rng.uniform(border, have - border)


def _inside(start: int, side: int, have: int) -> tuple[int, int]:
    """Start and length of the part of ``start..start + side`` that is in ``0..have``."""
    first = max(start, 0)
    return first, min(start + side, have) - first
