"""The regions that mask and keypoint heads look at."""

from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int

from zoo.models.detection.parts.decode import RoiDecoding
from zoo.models.detection.parts.outputs import TwoStageOutput
from zoo.outputs import Detections


class ObjectRegions(NamedTuple):
    """Regions with an object.

    Attributes:
        boxes: ``xyxy`` in pixels; without gradient.
        valid: False for filling.
        labels: Class of each; any number where it is not valid.
        detections: The same regions as detections; None in training with targets.
    """

    boxes: Float[Array, "b r 4"]
    valid: Bool[Array, "b r"]
    labels: Int[Array, "b r"]
    detections: Detections | None


def object_regions(
    output: TwoStageOutput, sizes: Int[Array, "b 2"], rule: RoiDecoding, most_positive: int
) -> ObjectRegions:
    """The sampled regions that are positive or, if none were sampled, the detections.

    As in the references, a head that looks inside an object is trained on proposals, and used on
    boxes that the box head has refined.

    Args:
        output: What the box head computed.
        sizes: Height and width of each image without padding.
        rule: Which regions are detections.
        most_positive: Number of the first sampled regions that can be positive.
    """
    if output.roi_samples is not None:
        samples = jax.tree.map(lambda x: x[:, :most_positive], output.roi_samples)
        return ObjectRegions(samples.boxes, samples.positive, samples.labels, None)
    logits, deltas = jax.lax.stop_gradient((output.class_logits, output.box_deltas))
    found = rule.from_logits(logits, deltas, output.proposals, output.proposals_valid, sizes)
    return ObjectRegions(found.boxes, found.valid, found.labels, found)


def required_detections(found: Detections | None) -> Detections:
    """The detections; raises ValueError if the model was called with targets in training."""
    if found is None:
        raise ValueError("decoding needs the output of a call without targets")
    return found


def mask_detections(output: Any, sizes: Int[Array, "b 2"]) -> Detections:
    """The detections with the probabilities of their masks.

    Args:
        output: Of a call without targets, with ``detections`` and ``mask_logits``.
        sizes: Height and width of each image without padding; the output does not need them.
    """
    del sizes
    found = required_detections(output.detections)
    return found.replace(mask_crops=jax.nn.sigmoid(output.mask_logits))
