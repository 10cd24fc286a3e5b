"""Padded batches of images, as two-stage detectors take them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Key


class Padded(NamedTuple):
    """A batch whose padding is zeros.

    Attributes:
        images: Height and width are multiples of the detector's divisor, less what it says.
        sizes: Height and width of each image without padding.
    """

    images: Float[Array, "b h w c"]
    sizes: Int[Array, "b 2"]


def pad_images(
    images: Float[Array, "b h w c"],
    valid: Bool[Array, "b h w"] | None,
    divisor: int,
    less: int = 0,
) -> Padded:
    """Sets the padding to zero, and extends it below and on the right to a multiple of `divisor`.

    Args:
        images: A batch, padded below and on the right.
        valid: False for the padding; all pixels are valid if absent.
        divisor: 32 for a pyramid, so that every map has half as many rows as the finer one.
        less: The sides are this many pixels less than such a multiple: 1 for CornerNet, whose
            images have 511 pixels.
    """
    if valid is None:
        valid = jnp.ones(images.shape[:3], bool)
    images = jnp.where(valid[..., None], images, 0)
    rows, columns = (-(side + less) % divisor for side in images.shape[1:3])
    images = jnp.pad(images, ((0, 0), (0, rows), (0, columns), (0, 0)))
    sizes = [valid.any(axis=axis).sum(axis=1) for axis in (2, 1)]
    return Padded(images, jnp.stack(sizes, axis=1))


def clip_to_sizes(boxes: Float[Array, "b n 4"], sizes: Int[Array, "b 2"]) -> Float[Array, "b n 4"]:
    """Clips the boxes of each image, ``xyxy`` in pixels, to its own height and width."""
    limits = jnp.tile(sizes[:, ::-1].astype(boxes.dtype), 2)  # b 4
    return jnp.clip(boxes, 0, limits[:, None])


def sample_keys(module: nn.Module, batch: int) -> Key[Array, " b"] | None:
    """A key of the stream ``sample`` for each image; None, which samples the first, without it."""
    if not module.has_rng("sample"):
        return None
    return jax.random.split(module.make_rng("sample"), batch)
