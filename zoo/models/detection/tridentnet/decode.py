"""Converts the output of a TridentNet to detections."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from zoo.models.detection.parts.decode import RoiDecoding
from zoo.models.detection.parts.samples import take
from zoo.models.detection.tridentnet.model import TridentOutput, join, part
from zoo.models.detection.tridentnet.ranges import in_range
from zoo.ops.nms import nms, select
from zoo.outputs import Detections

_RULE = RoiDecoding()


def trident_rois(
    output: TridentOutput, sizes: Int[Array, "b 2"], rule: RoiDecoding = _RULE
) -> Detections:
    """The detections of each branch that have its sizes, merged by non-maximum suppression.

    Args:
        output: See `TridentOutput`.
        sizes: Height and width of each image without padding.
        rule: Which regions are detections, in each branch and of all.
    """
    count = output.num_branches
    found = rule.from_logits(
        part(output.class_logits, count),
        part(output.box_deltas, count),
        part(output.proposals, count),
        part(output.proposals_valid, count),
        jnp.repeat(sizes, count, axis=0),
    )
    if count == 1:
        return found
    if output.valid_ranges:
        found = found.replace(valid=found.valid & in_range(found.boxes, output.valid_ranges))
    found = jax.tree.map(lambda x: join(x, count), found)
    kept = nms(found.boxes, found.scores, rule.iou_threshold, found.labels, found.valid)
    index, valid = select(kept, found.scores, min(rule.most, found.scores.shape[1]))
    return Detections(
        take(found.boxes, index), take(found.scores, index), take(found.labels, index), valid
    )
