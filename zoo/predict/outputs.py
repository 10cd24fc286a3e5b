"""Converts models' outputs to predictions, by task; training, evaluation and users share it."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from zoo.data.transforms import valid_pixels
from zoo.family import Family
from zoo.losses.reconstruction import patch_statistics
from zoo.models.detection.parts.inputs import clip_to_sizes
from zoo.ops.letterbox import way_back
from zoo.ops.patches import patchify, unpatchify
from zoo.outputs import Classes, Detections, Proposals, Segments
from zoo.registry import family_of
from zoo.types import InputError


def predict_classes(logits: Float[Array, "b k"], top: int = 5) -> Classes:
    """The `top` most probable classes, or all if fewer; of equal ones the lower number is first.

    >>> found = predict_classes(jnp.array([[0.0, 2.0, 1.0]]), top=2)
    >>> found.classes.tolist(), [f"{score:.2f}" for score in found.scores[0]]
    ([[1, 2]], ['0.67', '0.24'])
    """
    logits = logits.astype(jnp.float32)
    # Sorted by logits: probabilities of unlikely classes underflow to 0 and would be equal.
    _, classes = jax.lax.top_k(logits, min(top, logits.shape[-1]))
    scores = jnp.take_along_axis(jax.nn.softmax(logits), classes, axis=-1)
    return Classes(classes, scores)


def detect(
    model: Any,
    variables: Mapping[str, Any],
    images: Float[Array, "b h w c"],
    sizes: Int[Array, "b 2"],
    original_sizes: Int[Array, "b 2"],
    proposals: Proposals | None = None,
    *,
    letterbox: bool = False,
) -> Detections:
    """The objects that a detector finds in a batch, in pixels of the original images.

    Args:
        model: A detector of the zoo.
        variables: Its variables.
        images: Normalised images, padded below and on the right.
        sizes: Height and width of the images in the batch.
        original_sizes: Height and width of the images before they were resized.
        proposals: The regions to classify, for a model that takes proposals.
        letterbox: Whether the images are letterboxed; `sizes` are then those of the frame.

    Raises:
        InputError: If the model is not a detector, or is given proposals and takes none, or finds
            masks in letterboxed images.
    """
    family = family_of(model)
    if family.decode is None:
        raise InputError(f"{family.title} is for {family.task}: it detects no objects")
    valid = valid_pixels(sizes, (images.shape[1], images.shape[2]))
    inputs: tuple[Any, ...] = images, valid
    if proposals is not None:
        check_proposals(family)
        inputs = *inputs, proposals
    found: Detections = family.decode(model.apply(variables, *inputs), sizes)
    if letterbox and (found.masks is not None or found.mask_crops is not None):
        raise InputError(f"{family.title} finds masks, but a letterbox is for boxes only")
    offset, scale = way_back(sizes, original_sizes, letterbox=letterbox)
    offset, scale = offset[:, None], scale[:, None]  # b 1 2: x, y
    keypoints = found.keypoints
    if keypoints is not None:
        points = (keypoints[..., :2] - offset[:, None]) * scale[:, None]
        keypoints = jnp.concatenate([points, keypoints[..., 2:]], axis=-1)
    boxes = (found.boxes - jnp.tile(offset, 2)) * jnp.tile(scale, 2)
    if letterbox:
        boxes = clip_to_sizes(boxes, original_sizes)
    # A CenterNet that is hardly trained can predict sizes below 0: such boxes have no area.
    low, high = jnp.split(boxes, 2, axis=-1)
    boxes = jnp.concatenate([low, jnp.maximum(low, high)], axis=-1)
    return found.replace(boxes=boxes, keypoints=keypoints)


def check_proposals(family: Family) -> None:
    """Raises InputError if the models of a family take no proposals."""
    if not family.takes_proposals:
        raise InputError(f"data.proposals: {family.title} takes none; set --data.proposals=none")


def reconstruct(
    predicted: Float[Array, "b n ppc"],
    visible: Bool[Array, "b n"],
    images: Float[Array, "b h w c"],
    *,
    norm_pix_loss: bool,
    statistics: Literal["patch", "visible"] = "patch",
) -> Float[Array, "b h w c"]:
    """A masked autoencoder's prediction as images, on the scale of `images`.

    A model that was trained on normalised patches (`norm_pix_loss`) predicts neither the brightness
    nor the contrast of a patch; the picture takes them from `images`. With ``patch`` they are those
    of each original patch. The model does not see them for hidden patches, so the picture is better
    than the model's prediction. With ``visible`` they are the average over the visible patches.

    Args:
        predicted: The patches that the model predicts.
        visible: True for the patches that the model saw.
        images: The normalised images.
        norm_pix_loss: Whether the model predicts normalised patches.
        statistics: Source of the patches' mean and deviation; used only with `norm_pix_loss`.
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


def predict_pixels(logits: Float[Array, "b h w k"]) -> Segments:
    """The most probable class of each pixel; of equal ones the lower number."""
    logits = logits.astype(jnp.float32)
    scores = jnp.exp(logits.max(axis=-1) - jax.nn.logsumexp(logits, axis=-1))
    return Segments(logits.argmax(axis=-1).astype(jnp.uint8), scores)
