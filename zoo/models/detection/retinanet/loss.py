"""RetinaNet's loss (arXiv 1708.02002, section 4.1): focal loss, and the distance of the boxes."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from zoo.losses.boxes import smooth_l1
from zoo.losses.mean import Means
from zoo.models.detection.parts.dense import DenseOutput
from zoo.models.detection.parts.dense_loss import (
    Matches,
    Normaliser,
    dense_metrics,
    focal_sums,
    normalised,
)
from zoo.models.detection.parts.samples import take_object
from zoo.ops import boxes as box_ops
from zoo.ops.assign import IouRule, LowQuality, assign_by_iou
from zoo.outputs import Targets
from zoo.types import InputError, check_not_negative

BoxLoss = Literal["smooth_l1", "giou"]


@dataclasses.dataclass(frozen=True)
class RetinaNetLoss:
    """The loss of a RetinaNet; the defaults are those of torchvision's first version.

    torchvision's second version has ``box="giou"``. mmdet has ``low_quality="reassigned_ties",
    normaliser="batch"``. detectron2 has mmdet's normaliser as a moving average over steps, which
    is not implemented.

    Attributes:
        class_weight: Weight of the focal loss.
        box_weight: Weight of the loss of the boxes of positive anchors.
        alpha: Weight of the right class of a positive anchor in the focal loss.
        gamma: Exponent of the focal loss.
        high: An anchor is positive if its IoU with an object is at least this.
        low: It is negative if its largest IoU is below this, and ignored if between the two.
        low_quality: Which further anchors are positive: see `zoo.ops.assign.IouRule`.
        box: ``smooth_l1`` of the deltas, or ``giou``: 1 - GIoU of the decoded boxes.
        beta: Of smooth L1; 0 is L1.
        normaliser: See `zoo.models.detection.parts.dense_loss.normalised`.
    """

    class_weight: float = 1.0
    box_weight: float = 1.0
    alpha: float = 0.25
    gamma: float = 2.0
    high: float = 0.5
    low: float = 0.4
    low_quality: LowQuality = "ties"
    box: BoxLoss = "smooth_l1"
    beta: float = 0.0
    normaliser: Normaliser = "image"

    def __post_init__(self) -> None:
        names = "class_weight", "box_weight", "alpha", "gamma", "low", "beta"
        check_not_negative(self, names, "loss.")
        if not self.low <= self.high <= 1:
            raise InputError(f"loss.high is {self.high}, but must be in loss.low={self.low}..1")

    def __call__(self, output: DenseOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a model."""
        matches = self.match(output, targets)
        classes = focal_sums(output.logits, matches, targets, alpha=self.alpha, gamma=self.gamma)
        boxes = self.of_boxes(output, matches, targets)
        boxes = jnp.where(matches.positive, boxes, 0).sum(axis=1)
        losses = {
            "class": normalised(self.class_weight * classes, matches, targets, self.normaliser),
            "box": normalised(self.box_weight * boxes, matches, targets, self.normaliser),
        }
        return losses, dense_metrics(output, matches, targets)

    def match(self, output: DenseOutput, targets: Targets) -> Matches:
        """The object of each anchor."""
        rule = IouRule(self.high, self.low, low_quality=self.low_quality)
        match, label = assign_by_iou(output.anchors, targets.boxes, rule, truth_valid=targets.valid)
        positive = label == 1
        overlap = box_ops.paired_iou(output.anchors, take_object(targets.boxes, match))
        return Matches(match, positive, label >= 0, positive & (overlap >= self.high))

    def of_boxes(
        self, output: DenseOutput, matches: Matches, targets: Targets
    ) -> Float[Array, "b a"]:
        """The loss of each anchor's box; it means nothing where the anchor is not positive."""
        coder = output.decoding.coder
        truth = take_object(targets.boxes, matches.object)
        deltas = output.deltas.astype(jnp.float32)
        if self.box == "giou":
            return 1 - box_ops.paired_giou(coder.decode(deltas, output.anchors), truth)
        wanted = coder.encode(truth, output.anchors)
        return smooth_l1(deltas - wanted, self.beta).sum(axis=-1)
