"""Converts the output of Mask R-CNN to detections."""

import jax
from jaxtyping import Array, Int

from zoo.models.detection.mask_rcnn.model import MaskRCNNOutput
from zoo.models.detection.parts.objects import required_detections
from zoo.outputs import Detections


def decode(output: MaskRCNNOutput, sizes: Int[Array, "b 2"]) -> Detections:
    """The detections with the probabilities of their masks.

    Args:
        output: Of a call without targets.
        sizes: Height and width of each image without padding; the output does not need them.
    """
    del sizes
    found = required_detections(output.detections)
    return found.replace(mask_crops=jax.nn.sigmoid(output.mask_logits))
