"""Darknet's letterbox: an image as large as fits into the middle of a grey frame of a fixed size.

Reference: `letterbox_image` in pjreddie/darknet's ``src/image.c``. Deviation: boxes are moved back
by whole pixels, as the image was; darknet moves them by half a pixel more if the margin is odd.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def letterbox_frames(sizes: Any, canvas: tuple[Any, Any]) -> tuple[Any, Any]:
    """Where images are in their frames.

    >>> [x.tolist() for x in letterbox_frames(np.array([[30, 60]]), (20, 20))]
    [[[10, 20]], [[5, 0]]]

    Args:
        sizes: Heights and widths of images, whole numbers ``[b 2]``, numpy or JAX.
        canvas: Height and width of the frame: numbers, or ``[b]`` each.

    Returns:
        Heights and widths of the resized images, and the rows above and the columns left of them,
        each ``[b 2]``.
    """
    xp = np if isinstance(sizes, np.ndarray) else jnp
    (height, width), (rows, columns) = (sizes[:, 0], sizes[:, 1]), canvas
    wide = columns * height < rows * width
    inner = xp.stack(
        [
            xp.where(wide, height * columns // width, rows),
            xp.where(wide, columns, width * rows // height),
        ],
        axis=1,
    )
    inner = xp.maximum(inner, 1)
    return inner, xp.stack([rows - inner[:, 0], columns - inner[:, 1]], axis=1) // 2


def way_back(
    sizes: Int[Array, "b 2"], original_sizes: Int[Array, "b 2"], *, letterbox: bool
) -> tuple[Float[Array, "b 2"], Float[Array, "b 2"]]:
    """How places in the images of a batch become places in the original images.

    Args:
        sizes: Heights and widths of the images in the batch; of letterboxed ones, the frame's.
        original_sizes: Heights and widths before the images were resized.
        letterbox: Whether they are letterboxed; else they are at the top left.

    Returns:
        x and y to subtract, and x and y by which the difference is then multiplied.
    """
    offset = jnp.zeros_like(sizes)
    if letterbox:
        sizes, offset = letterbox_frames(original_sizes, (sizes[:, 0], sizes[:, 1]))
    scale = original_sizes.astype(jnp.float32) / sizes
    return offset[:, ::-1].astype(jnp.float32), scale[:, ::-1]
