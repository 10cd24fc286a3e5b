"""Converts the output of Keypoint R-CNN to detections."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from zoo.models.detection.keypoint_rcnn.model import KeypointRCNNOutput
from zoo.models.detection.parts.objects import required_detections
from zoo.ops.roi_keypoints import decode_keypoints
from zoo.outputs import Detections


def decode(output: KeypointRCNNOutput, sizes: Int[Array, "b 2"]) -> Detections:
    """The detections with the place and the score of each joint.

    Args:
        output: Of a call without targets.
        sizes: Height and width of each image without padding; the output does not need them.
    """
    del sizes
    found = required_detections(output.detections)
    b, n, *shape = output.keypoint_logits.shape
    boxes = jnp.where(found.valid[..., None], found.boxes, 0)  # filling takes little time
    points, logits, probabilities = decode_keypoints(
        output.keypoint_logits.reshape(b * n, *shape), boxes.reshape(b * n, 4)
    )
    scores = logits if output.keypoint_score == "logit" else probabilities
    keypoints = jnp.concatenate([points, scores[..., None]], axis=-1)
    return found.replace(keypoints=keypoints.reshape(b, n, -1, 3))
