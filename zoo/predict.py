"""Outputs of models to predictions, by task: once, for training, evaluation and users."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from zoo.models.detr import DetrOutput
from zoo.ops.boxes import cxcywh_to_xyxy


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


class Detections(struct.PyTreeNode):
    """Objects found in images, one for each of a model's queries; most have low scores.

    Attributes:
        boxes: ``xyxy`` in pixels; they may reach beyond the image.
        scores: Probabilities of the likeliest class.
        labels: The likeliest class.
    """

    boxes: Float[Array, "b q 4"]
    scores: Float[Array, "b q"]
    labels: Int[Array, "b q"]


def predict_detections(output: DetrOutput, sizes: Int[Array, "b 2"]) -> Detections:
    """The likeliest object of every query, as the reference's ``PostProcess`` has it.

    Args:
        output: What DETR gives.
        sizes: Height and width of the images whose pixels the boxes are to be in.
    """
    probabilities = jax.nn.softmax(output.logits.astype(jnp.float32))[..., :-1]
    scale = jnp.tile(sizes[:, ::-1].astype(jnp.float32), 2)[:, None]  # b 1 4
    return Detections(
        boxes=cxcywh_to_xyxy(output.boxes_cxcywh.astype(jnp.float32)) * scale,
        scores=probabilities.max(axis=-1),
        labels=probabilities.argmax(axis=-1),
    )
