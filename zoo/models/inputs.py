"""Random example inputs for models of images, in a size that the model accepts."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from zoo.family import Size


def image_size(model: Any) -> Size:
    """A height and width that a model accepts: the least `input_side`, `image_size`, or 224 px."""
    if side := getattr(model, "input_side", None):
        return side(1), side(1)
    size = getattr(model, "image_size", 224)
    return (size, size) if isinstance(size, int) else tuple(size)


def images(
    model: Any, size: Size | None, count: int, key: jax.Array
) -> tuple[Float[Array, "b h w 3"]]:
    """Random numbers that stand for normalised images."""
    return (jax.random.normal(key, (count, *(size or image_size(model)), 3)),)


def padded_images(
    model: Any, size: Size | None, count: int, key: jax.Array
) -> tuple[Float[Array, "b h w 3"], Bool[Array, "b h w"]]:
    """Padded images of different sizes, and masks that are True for pixels outside the padding."""
    (batch,) = images(model, size, count, key)
    height, width = batch.shape[1:3]
    rows, columns = (side - side // 8 * (jnp.arange(count) % 4) for side in (height, width))
    inside = jnp.arange(height)[:, None] < rows[:, None, None]
    return batch, inside & (jnp.arange(width) < columns[::-1, None, None])
