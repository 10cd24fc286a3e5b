"""What cascades of box heads compute, and their detections (Cascade R-CNN, arXiv 1712.00726)."""

import dataclasses
from typing import Literal, no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from zoo.models.detection.parts.decode import RoiDecoding
from zoo.models.detection.parts.outputs import TwoStageOutput
from zoo.ops.box_coder import BoxCoder
from zoo.outputs import Detections

MeanOf = Literal["probabilities", "logits"]


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class CascadeOutput(TwoStageOutput):
    """What Cascade R-CNN predicts; axis t is the stages, first to last.

    Attributes:
        rpn_logits: As in `TwoStageOutput`.
        rpn_deltas: Likewise.
        anchors: Likewise.
        proposals: The boxes that each stage saw, ``xyxy`` in pixels; without gradient.
        proposals_valid: False for filling.
        class_logits: Logits of the classes and, last, of the background.
        box_deltas: Refinement of the box for all classes, times the weights of the stage's coder.
        anchor_samples: In training with targets: the anchors of the losses.
        roi_samples: In training with targets: where `proposals` come from, and their objects; each
            array has the axis t after the first one.
        coder_weights: As in `TwoStageOutput`.
        mean_of: What is averaged over the stages: see `CascadeRCNN`.
    """

    proposals: Float[Array, "b t r 4"]
    proposals_valid: Bool[Array, "b t r"]
    class_logits: Float[Array, "b t r classes"]
    box_deltas: Float[Array, "b t r 4"]
    mean_of: MeanOf = struct.field(pytree_node=False, default="probabilities")


_RULE = RoiDecoding(min_size=0.0)


def cascade_rois(
    output: CascadeOutput, sizes: Int[Array, "b 2"], rule: RoiDecoding = _RULE
) -> Detections:
    """The last stage's boxes, with probabilities that are a mean over the stages.

    Each stage has classified the boxes that it saw.

    Args:
        output: See `CascadeOutput`.
        sizes: Height and width of each image without padding.
        rule: Which of them are kept; the default is detectron2's. The coder is that of the stage.
    """
    logits = output.class_logits.astype(jnp.float32)
    if output.mean_of == "logits":
        scores = jax.nn.softmax(logits.mean(axis=1))[..., :-1]
    else:
        scores = jax.nn.softmax(logits).mean(axis=1)[..., :-1]
    last = output.class_logits.shape[1] - 1
    boxes, valid, deltas = (
        x[:, last] for x in (output.proposals, output.proposals_valid, output.box_deltas)
    )
    rule = dataclasses.replace(rule, coder=BoxCoder(output.coder_weights[last]))
    return rule.from_scores(scores, deltas[:, :, None], boxes, valid, sizes)
