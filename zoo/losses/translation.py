"""Losses of token sequences: one value per token."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def token_cross_entropy(
    logits: Float[Array, "b t v"], targets: Int[Array, "b t"], label_smoothing: float = 0.0
) -> Float[Array, "b t"]:
    """Cross-entropy of the softmax of the logits, with smoothed targets (arXiv 1512.00567).

    The target's share is ``1 - label_smoothing``; the rest is spread evenly over all v tokens, the
    target included. Padding is not recognised: the caller leaves it out.

    Args:
        logits: Any float dtype; the loss is computed in float32.
        targets: The true tokens.
        label_smoothing: In 0..1.
    """
    logits = logits.astype(jnp.float32)
    right = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    expected = (1 - label_smoothing) * right + label_smoothing * logits.mean(axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - expected
