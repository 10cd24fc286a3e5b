"""What two-stage detectors compute: proposals, the samples of training, and the heads' outputs."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, no_type_check

from flax import struct
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Float, Int

CoderWeights = tuple[float, float, float, float]
Scores = Literal["softmax", "sigmoid"]


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class AnchorSamples(struct.PyTreeNode):
    """The anchors of each image that the losses of the proposals are computed for.

    Attributes:
        index: Their numbers; the number of rows, s, is fixed.
        drawn: False for filling, if an image has too few anchors that are not ignored.
        positive: True for those that belong to an object.
        match: The object of a positive one, as an index into the targets.
    """

    index: Int[Array, "b s"]
    drawn: Bool[Array, "b s"]
    positive: Bool[Array, "b s"]
    match: Int[Array, "b s"]


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class RoiSamples(struct.PyTreeNode):
    """The regions of each image that a head is trained on; of sampled ones positive ones are first.

    Attributes:
        boxes: Proposals and true boxes, ``xyxy`` in pixels of the padded batch.
        drawn: False for filling, if an image has too few regions.
        positive: True for those that belong to an object; of sampled ones, only the first
            ``int(num * positive_fraction)`` rows can be.
        match: The object that the region overlaps most, as an index into the targets.
        labels: Class of that object; the number of classes, which stands for the background, where
            the region is not positive.
    """

    boxes: Float[Array, "b s 4"]
    drawn: Bool[Array, "b s"]
    positive: Bool[Array, "b s"]
    match: Int[Array, "b s"]
    labels: Int[Array, "b s"]


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class Regions(struct.PyTreeNode):
    """What a region proposal network computes; anchors are those of all levels, finest first.

    Attributes:
        logits: Logit of each anchor for "there is an object".
        deltas: Refinement of each anchor: see `zoo.ops.box_coder`.
        anchors: ``xyxy`` in pixels of the padded batch.
        boxes: The proposals, ``xyxy`` in pixels, within each image, best first; without gradient.
        valid: False for filling of the proposals.
        samples: In training with targets: the anchors of the losses.
    """

    logits: Float[Array, "b a"]
    deltas: Float[Array, "b a 4"]
    anchors: Float[Array, "a 4"]
    boxes: Float[Array, "b r 4"]
    valid: Bool[Array, "b r"]
    samples: AnchorSamples | None = None


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class TwoStageOutput(struct.PyTreeNode):
    """What Faster R-CNN predicts; axis r is the proposals, in training with targets the samples.

    Attributes:
        rpn_logits: Logit of each anchor for "there is an object".
        rpn_deltas: Refinement of each anchor: see `zoo.ops.box_coder`.
        anchors: ``xyxy`` in pixels of the padded batch, of all levels, finest first; the same for
            all images.
        proposals: The boxes that the heads saw, ``xyxy`` in pixels; without gradient.
        proposals_valid: False for filling.
        class_logits: Logits of the classes and, last, of the background.
        box_deltas: Refinement of the box for each class, times the weights of the coder.
        anchor_samples: In training with targets: the anchors of the losses.
        roi_samples: In training with targets: where `proposals` come from, and their objects.
        coder_weights: Weights of dx, dy, dw and dh in the deltas of each stage; only a cascade has
            more than one stage.
    """

    rpn_logits: Float[Array, "b a"]
    rpn_deltas: Float[Array, "b a 4"]
    anchors: Float[Array, "b a 4"]
    proposals: Float[Array, "b r 4"]
    proposals_valid: Bool[Array, "b r"]
    class_logits: Float[Array, "b r classes"]
    box_deltas: Float[Array, "b r k 4"]
    anchor_samples: AnchorSamples | None = None
    roi_samples: RoiSamples | None = None
    coder_weights: tuple[CoderWeights, ...] = struct.field(
        pytree_node=False, default=((10.0, 10.0, 5.0, 5.0),)
    )

    def shared(self) -> dict[str, Any]:
        """These attributes by name, for outputs of detectors with further heads."""
        names = [field.name for field in dataclasses.fields(TwoStageOutput)]
        return {name: getattr(self, name) for name in names}


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class RegionOutput(struct.PyTreeNode):
    """What a detector predicts for regions that it is given; in training, r is the samples.

    Attributes:
        proposals: The regions, ``xyxy`` in pixels, within each image; without gradient.
        proposals_valid: False for filling.
        class_logits: With ``softmax``, logits of the classes and, last, of the background; with
            ``sigmoid``, one of each class alone.
        box_deltas: Refinement of the region for each class, times the weights of
            `zoo.models.detection.parts.decode.ROI_CODER`; None if regions are not refined.
        roi_samples: In training with targets: where `proposals` come from, and their objects.
        scores: How the logits become scores of 0..1.
        decoding_fields: Fields of `zoo.models.detection.parts.decode.RoiDecoding`.
    """

    proposals: Float[Array, "b r 4"]
    proposals_valid: Bool[Array, "b r"]
    class_logits: Float[Array, "b r classes"]
    box_deltas: Float[Array, "b r k 4"] | None = None
    roi_samples: RoiSamples | None = None
    scores: Scores = struct.field(pytree_node=False, default="softmax")
    decoding_fields: Mapping[str, Any] = struct.field(pytree_node=False, default=FrozenDict())
