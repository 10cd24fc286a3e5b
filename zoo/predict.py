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
    scores = jax.nn.softmax(logits.astype(jnp.float32))
    scores, classes = jax.lax.top_k(scores, min(top, logits.shape[-1]))
    return ClassPredictions(classes, scores)
