"""Losses of image classification: one value per example."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


def softmax_cross_entropy(
    logits: Float[Array, "b k"], targets: Float[Array, "b k"]
) -> Float[Array, " b"]:
    """Cross-entropy of the softmax of the logits, ``-sum(targets * log_softmax(logits))``.

    Args:
        logits: Any float dtype; the loss is computed in float32.
        targets: At least 0. The loss is linear in the targets: a row that sums to w has the weight
            w, so a row of zeros, which marks a padding example, has loss 0.
    """
    return -jnp.sum(targets * jax.nn.log_softmax(logits.astype(jnp.float32)), axis=-1)


def sigmoid_cross_entropy(
    logits: Float[Array, "b k"], targets: Float[Array, "b k"]
) -> Float[Array, " b"]:
    """Sum of the binary cross-entropies of all classes, as in big_vision.

    Args:
        logits: Any float dtype; the loss is computed in float32.
        targets: Between 0 and 1. The loss of a row is multiplied by the sum of the row, so a row of
            zeros, which marks a padding example, has loss 0.
    """
    losses = optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets)
    return losses.sum(axis=-1) * targets.sum(axis=-1)


LOSSES = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}
