"""Resizing as PyTorch does it, where `jax.image.resize` differs."""

import numpy as np
from jaxtyping import Array, Shaped


def resize_nearest(
    x: Shaped[Array, "b h w *c"], size: tuple[int, int]
) -> Shaped[Array, "b rows columns *c"]:
    """Nearest neighbours as torch's ``nearest``: cell i takes cell ``floor(i * old / new)``.

    `jax.image.resize` takes the cell with the nearest centre instead.

    Args:
        x: Maps of any dtype; boolean masks as well.
        size: The new height and width.
    """
    for axis, new in zip((1, 2), size, strict=True):
        if x.shape[axis] != new:
            # In float32, so that every index equals torch's.
            step = np.float32(x.shape[axis]) / np.float32(new)
            index = np.floor(np.arange(new, dtype=np.float32) * step).astype(np.int32)
            x = x.take(np.minimum(index, x.shape[axis] - 1), axis=axis)
    return x
