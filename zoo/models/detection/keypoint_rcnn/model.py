"""Keypoint R-CNN: a Faster R-CNN that also finds the joints of each person.

Paper: "Mask R-CNN", arXiv 1703.06870, section 5. References: torchvision's `KeypointRCNN` and
detectron2's ``keypoint_rcnn_R_50_FPN_3x``, with which outputs agree. The joints of the published
weights are COCO's 17.

Deviations: torchvision also regresses a box for the background: see
`zoo.models.detection.faster_rcnn.model`.
"""

from collections.abc import Mapping
from typing import Any, Literal, no_type_check

from flax import struct
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Float

from zoo.models.detection.faster_rcnn.model import FasterRCNN
from zoo.models.detection.parts.decode import RoiDecoding
from zoo.models.detection.parts.keypoint_head import KeypointBranch
from zoo.models.detection.parts.objects import object_regions
from zoo.models.detection.parts.outputs import TwoStageOutput
from zoo.models.detection.parts.pooling import RoiPooling
from zoo.models.detection.parts.samples import RoiSampling
from zoo.outputs import Detections, Targets

KeypointScore = Literal["logit", "probability"]


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class KeypointRCNNOutput(TwoStageOutput, kw_only=True):
    """What Keypoint R-CNN predicts; the first attributes are those of `TwoStageOutput`.

    Attributes:
        keypoint_logits: Heat maps: in training with targets, of the first regions, those that can
            be positive; else of the detections.
        detections: The objects, without keypoints; None in training with targets.
        keypoint_score: As in `KeypointRCNN`.
    """

    keypoint_logits: Float[Array, "b n s s j"]
    detections: Detections | None
    keypoint_score: KeypointScore = struct.field(pytree_node=False)


class KeypointRCNN(FasterRCNN):
    """Images to proposals, these to classes and boxes, and these to joints.

    Attributes:
        num_classes: Number of classes, without the background: people only.
        decoding_fields: Fields of `zoo.models.detection.parts.decode.RoiDecoding`, the rule by
            which classified regions become the objects whose joints are found.
        num_keypoints: Joints.
        keypoint_pool_size: Rows and columns of a region's features; its heat maps have four times
            as many. The other settings of pooling are those for boxes.
        keypoint_conv_dims: Features of the convolutions of the keypoint head.
        keypoint_score: What the score of a joint is: the largest value of its heat map, as in
            torchvision, or a probability, as in detectron2.
    """

    num_classes: int = 1
    decoding_fields: Mapping[str, Any] = FrozenDict()
    num_keypoints: int = 17
    keypoint_pool_size: int = 14
    keypoint_conv_dims: tuple[int, ...] = (512,) * 8
    keypoint_score: KeypointScore = "logit"

    def setup(self) -> None:
        """Makes the submodules."""
        super().setup()
        self.keypoints = KeypointBranch(
            self.num_keypoints,
            RoiPooling(**{**self.pooling_fields, "size": self.keypoint_pool_size}),
            self.keypoint_conv_dims,
            dtype=self.dtype,
        )

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> KeypointRCNNOutput:
        """Predictions for normalised images; `FasterRCNN` has the arguments."""
        features = self.features(images, valid, train=train)
        output = self.classify(features, targets, train=train)
        boxes, used, _, found = object_regions(
            output,
            features.sizes,
            RoiDecoding(**self.decoding_fields),
            RoiSampling(**self.roi_sampling).most_positive,
        )
        logits = self.keypoints(features.maps, self.pooled_strides, boxes, used, train=train)
        return KeypointRCNNOutput(
            **output.shared(),
            keypoint_logits=logits,
            detections=found,
            keypoint_score=self.keypoint_score,
        )
