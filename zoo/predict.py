"""Outputs of models to predictions, by task: once, for training, evaluation and users."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int


class ClassPredictions(struct.PyTreeNode):
    """The likeliest classes of images, likeliest first.

    Attributes:
        classes: Numbers of classes.
        scores: Their probabilities, by softmax.
    """

    classes: Int[Array, "b j"]
    scores: Float[Array, "b j"]


def predict_classes(logits: Float[Array, "b k"], top: int = 5) -> ClassPredictions:
    """The `top` likeliest classes, or all if there are fewer; of equal ones the lower first."""
    logits = logits.astype(jnp.float32)
    # By logits: the probabilities of unlikely classes underflow, and would be equal.
    _, classes = jax.lax.top_k(logits, min(top, logits.shape[-1]))
    scores = jnp.take_along_axis(jax.nn.softmax(logits), classes, axis=-1)
    return ClassPredictions(classes, scores)
