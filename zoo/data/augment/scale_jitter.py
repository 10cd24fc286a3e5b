"""Scale jitter: training images of very different sizes on a canvas of one size.

EfficientDet (arXiv 1911.09070, section 5.1) and "Simple Copy-Paste", arXiv 2012.07177, section 3.
"""

import numpy as np

from zoo.data.augment.picture import Picture, Size, crop, resize_picture


def jitter_scale(
    picture: Picture, canvas: Size, factors: tuple[float, float], rng: np.random.Generator
) -> Picture:
    """Resizes by a random factor; if the result is larger than the canvas, cuts out a random part.

    Args:
        picture: What to resize.
        canvas: Height and width that the result fits into.
        factors: Smallest and largest factor, of the size that just fits into the canvas.
        rng: Draws the factor, uniformly, and the place of the part.
    """
    sides = list(zip(canvas, picture.size, strict=True))
    ratio = min(room / side for room, side in sides) * rng.uniform(*factors)
    height, width = (max(1, int(side * ratio)) for side in picture.size)
    picture = resize_picture(picture, (height, width), fast=True)
    rows, columns = (min(a, b) for a, b in zip(canvas, picture.size, strict=True))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    return crop(picture, top, left, rows, columns)
