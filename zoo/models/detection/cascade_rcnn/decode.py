"""Converts the outputs of a cascade of stages to detections (arXiv 1712.00726, section 4.2)."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from zoo.models.detection.cascade_rcnn.model import CODERS, CascadeOutput
from zoo.models.detection.parts.decode import RoiDecoding
from zoo.outputs import Detections

_RULE = RoiDecoding(min_size=0.0)


def cascade_rois(
    output: CascadeOutput, sizes: Int[Array, "b 2"], rule: RoiDecoding = _RULE
) -> Detections:
    """The last stage's boxes with the means of all stages' probabilities.

    Each stage has classified the boxes that it saw.

    Args:
        output: Of an image batch.
        sizes: Height and width of each image without padding.
        rule: Which of them are kept; the default is detectron2's. The coder is that of the stage.
    """
    scores = jax.nn.softmax(output.class_logits.astype(jnp.float32)).mean(axis=1)[..., :-1]
    last = output.class_logits.shape[1] - 1
    boxes, valid, deltas = (
        x[:, last] for x in (output.proposals, output.proposals_valid, output.box_deltas)
    )
    rule = dataclasses.replace(rule, coder=CODERS[last])
    return rule.from_scores(scores, deltas[:, :, None], boxes, valid, sizes)
