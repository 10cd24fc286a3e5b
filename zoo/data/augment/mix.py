"""Mixup (arXiv 1710.09412) and CutMix (1905.04899) of a whole batch, on the device.

Like timm's ``Mixup`` in its batch mode: the partner of example i is example b - 1 - i, and one
share or one box is drawn for the whole batch. A box is n pixels wide, as in timm 1.0.31; in earlier
versions it was 2 * (n // 2) wide. Unlike timm's, the random numbers are JAX's.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray


def mix_batch(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    targets: Float[Array, "b k"],
    *,
    mixup: float,
    cutmix: float,
    probability: float = 1.0,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b k"]]:
    """Mixes each example with its partner, image and target in the same proportion.

    Args:
        key: Random key of this batch.
        images: Normalised images.
        targets: One-hot or smoothed targets; all zero where an example is not valid.
        mixup: Parameter of Mixup's Beta distribution; 0 turns Mixup off.
        cutmix: Parameter of CutMix's Beta distribution; 0 turns CutMix off. With both on, each
            batch has one of them with equal chance.
        probability: Share of batches that are mixed, in 0..1.

    Returns:
        Images and targets, ``own * x + (1 - own) * x[::-1]``. For Mixup `own` is drawn from
        Beta(mixup, mixup); for CutMix it is 0 in the pasted box and 1 elsewhere, and its mean, the
        share of the image that remains, mixes the targets.
    """
    if not mixup and not cutmix:
        return images, targets
    mixed_key, cutmix_key, share_key, box_key = jax.random.split(key, 4)
    height, width = images.shape[1:3]
    if cutmix:
        pasted = 1 - jax.random.beta(share_key, cutmix, cutmix)
        own = (~_box(box_key, height, width, pasted)).astype(jnp.float32)
    else:
        own = jnp.ones((height, width))
    if mixup:
        use_cutmix = jax.random.bernoulli(cutmix_key, 0.5 if cutmix else 0.0)
        own = jnp.where(use_cutmix, own, jax.random.beta(share_key, mixup, mixup))
    own = jnp.where(jax.random.bernoulli(mixed_key, float(probability)), own, 1.0)

    pixels, label = own[:, :, None].astype(images.dtype), own.mean().astype(targets.dtype)
    return (
        pixels * images + (1 - pixels) * images[::-1],
        label * targets + (1 - label) * targets[::-1],
    )


def _box(key: PRNGKeyArray, height: int, width: int, share: Float[Array, ""]) -> Bool[Array, "h w"]:
    """True in a box of `share` of the area around a random centre, clipped to the image."""

    def covered(key: PRNGKeyArray, length: int) -> Bool[Array, " n"]:
        extent = jnp.floor(length * jnp.sqrt(share)).astype(int)
        centre = jax.random.randint(key, (), 0, length)
        places = jnp.arange(length)
        return (places >= centre - extent // 2) & (places < centre + (extent + 1) // 2)

    y_key, x_key = jax.random.split(key)
    return covered(y_key, height)[:, None] & covered(x_key, width)[None, :]
