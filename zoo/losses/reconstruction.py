"""Losses of masked image modelling, and the statistics that undo the normalisation of patches.

As in MAE (arXiv 2111.06377), the loss is the mean squared error of each hidden patch. The target is
the patch's pixels as they are or, which gives better features, normalised by the mean and the
standard deviation of that patch.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

EPSILON = 1e-6  # added to the variance, as in facebookresearch/mae


def patch_statistics(
    patches: Float[Array, "b n ppc"],
) -> tuple[Float[Array, "b n 1"], Float[Array, "b n 1"]]:
    """Mean and standard deviation of each patch over all its values.

    The variance is unbiased, as in torch: the sum is divided by the number of values minus 1.
    """
    patches = patches.astype(jnp.float32)
    mean = patches.mean(axis=-1, keepdims=True)
    variance = patches.var(axis=-1, keepdims=True, ddof=1)
    return mean, jnp.sqrt(variance + EPSILON)


def patch_errors(
    predicted: Float[Array, "b n ppc"], patches: Float[Array, "b n ppc"], *, norm_pix_loss: bool
) -> Float[Array, "b n"]:
    """Mean squared error of each patch.

    Args:
        predicted: Any float dtype; the errors are computed in float32.
        patches: Patches of the original images.
        norm_pix_loss: Whether the target is each patch minus its mean, divided by its standard
            deviation.
    """
    targets = patches.astype(jnp.float32)
    if norm_pix_loss:
        mean, deviation = patch_statistics(patches)
        targets = (targets - mean) / deviation
    return jnp.mean((predicted.astype(jnp.float32) - targets) ** 2, axis=-1)


def reconstruction_loss(
    predicted: Float[Array, "b n ppc"],
    patches: Float[Array, "b n ppc"],
    visible: Bool[Array, "b n"],
    *,
    norm_pix_loss: bool,
) -> Float[Array, ""]:
    """The mean of `patch_errors` over all hidden patches; 0 if none is hidden.

    Args:
        predicted: Predicted patches.
        patches: Patches of the original images.
        visible: True for the patches that the model saw; they have no loss.
        norm_pix_loss: Whether each target patch is normalised: see `patch_errors`.
    """
    errors = patch_errors(predicted, patches, norm_pix_loss=norm_pix_loss)
    hidden = ~visible
    return jnp.sum(errors * hidden) / jnp.maximum(hidden.sum(), 1)
