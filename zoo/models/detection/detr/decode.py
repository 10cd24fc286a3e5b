"""Converts DETR's output to detections."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from zoo.models.detection.detr.model import DetrOutput
from zoo.ops.boxes import cxcywh_to_xyxy
from zoo.outputs import Detections


def decode(output: DetrOutput, sizes: Int[Array, "b 2"]) -> Detections:
    """The box and the most probable class of every query, as in the reference's ``PostProcess``.

    Args:
        output: DETR's output.
        sizes: Height and width of the images; the boxes are in pixels of these.
    """
    probabilities = jax.nn.softmax(output.logits.astype(jnp.float32))[..., :-1]
    scale = jnp.tile(sizes[:, ::-1].astype(jnp.float32), 2)[:, None]  # b 1 4
    scores = probabilities.max(axis=-1)
    return Detections(
        boxes=cxcywh_to_xyxy(output.boxes_cxcywh.astype(jnp.float32)) * scale,
        scores=scores,
        labels=probabilities.argmax(axis=-1),
        valid=jnp.ones(scores.shape, bool),
        masks=output.masks,
    )
