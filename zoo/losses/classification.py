"""Losses of image classification, one value an example."""

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
        targets: At least 0. Rows that sum to w instead of 1 have w times the loss, so that rows of
            zeros, which stand for no example, have none.
    """
    return -jnp.sum(targets * jax.nn.log_softmax(logits.astype(jnp.float32)), axis=-1)


def sigmoid_cross_entropy(
    logits: Float[Array, "b k"], targets: Float[Array, "b k"]
) -> Float[Array, " b"]:
    """Binary cross-entropy of each class, summed up, as big_vision trains with.

    Args:
        logits: Any float dtype; the loss is computed in float32.
        targets: Between 0 and 1. A row has its sum times the loss, so that rows of zeros, which
            stand for no example, have none.
    """
    losses = optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets)
    return losses.sum(axis=-1) * targets.sum(axis=-1)


LOSSES = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}
