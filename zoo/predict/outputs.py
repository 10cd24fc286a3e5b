"""Outputs of models to predictions, by task: once, for training, evaluation and users."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

from zoo.losses.reconstruction import patch_statistics
from zoo.models.detr import DetrOutput
from zoo.ops.boxes import cxcywh_to_xyxy
from zoo.ops.patches import patchify, unpatchify


class ClassPredictions(struct.PyTreeNode):
    """The likeliest classes of images, likeliest first.

    Attributes:
        classes: Numbers of classes.
        scores: Their probabilities, by softmax.
    """

    classes: Int[Array, "b j"]
    scores: Float[Array, "b j"]


def predict_classes(logits: Float[Array, "b k"], top: int = 5) -> ClassPredictions:
    """The `top` likeliest classes, or all if there are fewer; of equal ones the lower first.

    >>> found = predict_classes(jnp.array([[0.0, 2.0, 1.0]]), top=2)
    >>> found.classes.tolist(), [f"{score:.2f}" for score in found.scores[0]]
    ([[1, 2]], ['0.67', '0.24'])
    """
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
        masks: Logits over the padded input, at a coarser stride; None if the model has no masks.
    """

    boxes: Float[Array, "b q 4"]
    scores: Float[Array, "b q"]
    labels: Int[Array, "b q"]
    masks: Float[Array, "b q rows columns"] | None = None


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
        masks=output.masks,
    )


def reconstruct(
    predicted: Float[Array, "b n ppc"],
    visible: Bool[Array, "b n"],
    images: Float[Array, "b h w c"],
    *,
    norm_pix_loss: bool,
    statistics: Literal["patch", "visible"] = "patch",
) -> Float[Array, "b h w c"]:
    """A masked autoencoder's prediction as images, on the scale of the `images` it was given.

    A model that was trained on normalised patches (`norm_pix_loss`) predicts neither a patch's
    brightness nor its contrast. To be seen, they have to come from somewhere: with ``patch`` from
    the original of each patch, which a hidden patch does not show, so that the picture is better
    than what the model knows; with ``visible`` from the visible patches alone, their average.

    Args:
        predicted: The model's patches.
        visible: True for the patches that the model saw.
        images: The normalised images.
        norm_pix_loss: Whether the model predicts normalised patches.
        statistics: Where mean and deviation of the patches come from; used by `norm_pix_loss` only.
    """
    height, width, channels = images.shape[1:]
    patch_size = round((predicted.shape[-1] // channels) ** 0.5)
    if norm_pix_loss:
        mean, deviation = patch_statistics(patchify(images, patch_size))
        if statistics == "visible":
            seen = visible[:, :, None]
            mean = jnp.mean(mean, axis=1, keepdims=True, where=seen)
            deviation = jnp.mean(deviation, axis=1, keepdims=True, where=seen)
        predicted = predicted * deviation + mean
    return unpatchify(predicted, patch_size, (height, width))


class PixelPredictions(struct.PyTreeNode):
    """The likeliest class of each pixel.

    Attributes:
        labels: Numbers of classes; there are at most 255.
        scores: Their probabilities, by softmax.
    """

    labels: UInt8[Array | np.ndarray, "*b h w"]
    scores: Float[Array | np.ndarray, "*b h w"]


def predict_pixels(logits: Float[Array, "b h w k"]) -> PixelPredictions:
    """The likeliest class of each pixel; of equal ones the lower."""
    logits = logits.astype(jnp.float32)
    scores = jnp.exp(logits.max(axis=-1) - jax.nn.logsumexp(logits, axis=-1))
    return PixelPredictions(logits.argmax(axis=-1).astype(jnp.uint8), scores)
