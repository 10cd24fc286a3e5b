"""Image pyramids: the same images at several sizes, and where their windows are in the original.

Sizes are integers that follow from the shape of the images, so that every array has a static shape.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float, Float32

Size = tuple[int, int]


def pyramid_sizes(
    size: Size, least: Size, *, per_octave: int = 8, largest: float = 1.0
) -> tuple[Size, ...]:
    """Heights and widths of an image at scales that fall by ``2 ** (1 / per_octave)``.

    >>> pyramid_sizes((100, 160), least=(40, 40), per_octave=2)
    ((100, 160), (71, 113), (50, 80))

    Args:
        size: Height and width of the image.
        least: Height and width that each size has at least; those of a detector's window.
        per_octave: Number of scales from one to half of it.
        largest: The first scale; above 1 to find objects smaller than the window.

    Returns:
        Distinct sizes, rounded to whole pixels, the largest first; none if no scale is at least
        `least`.
    """
    sizes: list[Size] = []
    while True:
        scale = largest * 2 ** (-len(sizes) / per_octave)
        height, width = (int(side * scale + 0.5) for side in size)
        if height < least[0] or width < least[1]:
            return tuple(dict.fromkeys(sizes))
        sizes.append((height, width))


def image_pyramid(
    images: Float[Array, "b h w c"], sizes: Sequence[Size]
) -> tuple[Float[Array, "b _ _ c"], ...]:
    """The images at each size: bilinear, with half-pixel centres, antialiased where smaller."""
    b, c = images.shape[0], images.shape[3]
    return tuple(jax.image.resize(images, (b, *size, c), "linear") for size in sizes)


def window_boxes(
    grid: Size, window: Size, stride: int, scaled: Size, original: Size
) -> Float32[np.ndarray, "rows columns 4"]:
    """Boxes, in the original image, of the windows of an image that was resized.

    The box of the window whose top left pixel is 0, 0 begins at 0, 0, the corner of that pixel:
    with half-pixel centres, resizing multiplies coordinates of edges by the ratio of the sides.
    This ratio is computed from the rounded sides of each axis, not from the nominal scale.

    >>> window_boxes((1, 2), (4, 6), 8, scaled=(10, 20), original=(20, 40))[0, 1].tolist()
    [16.0, 0.0, 28.0, 8.0]

    Args:
        grid: Numbers of windows: rows and columns.
        window: Height and width of a window, in pixels of the resized image.
        stride: From one window to the next, in pixels of the resized image.
        scaled: Height and width of the resized image.
        original: Height and width of the original image.

    Returns:
        ``xyxy``, in pixels of the original image.
    """
    rows, columns = np.indices(grid) * stride
    boxes = np.stack([columns, rows, columns + window[1], rows + window[0]], axis=-1)
    ratio = np.array(original[::-1]) / np.array(scaled[::-1])
    return (boxes * np.tile(ratio, 2)).astype(np.float32)
