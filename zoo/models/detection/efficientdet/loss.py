"""EfficientDet's loss (arXiv 1911.09070, section 5.1): focal loss, and Huber loss of the boxes."""

import dataclasses

import jax.numpy as jnp

from zoo.losses.boxes import smooth_l1
from zoo.losses.mean import Means
from zoo.models.detection.parts.dense import DenseOutput
from zoo.models.detection.parts.dense_loss import (
    Matches,
    dense_metrics,
    focal_sums,
    normalised,
)
from zoo.models.detection.parts.samples import take_object
from zoo.ops import boxes as box_ops
from zoo.ops.assign import IouRule, assign_by_iou
from zoo.outputs import Targets
from zoo.types import InputError, check_not_negative


@dataclasses.dataclass(frozen=True)
class EfficientDetLoss:
    """The loss of an EfficientDet; the defaults are those of effdet and automl.

    Both parts are divided by the number of positive anchors of the batch plus 1, and the boxes'
    also by 4. An anchor's delta does not count where its wanted value is exactly 0, as there.

    Deviations: an object that overlaps no anchor gets none; there, the first anchor of all.

    Attributes:
        class_weight: Weight of the focal loss.
        box_weight: Weight of the Huber loss of the deltas of positive anchors.
        alpha: Weight of the right class of a positive anchor in the focal loss.
        gamma: Exponent of the focal loss.
        high: An anchor is positive if its IoU with an object is at least this, or if no other one
            overlaps the object more; else it is negative.
        delta: The Huber loss is quadratic for smaller errors, and linear for larger ones.
    """

    class_weight: float = 1.0
    box_weight: float = 50.0
    alpha: float = 0.25
    gamma: float = 1.5
    high: float = 0.5
    delta: float = 0.1

    def __post_init__(self) -> None:
        names = "class_weight", "box_weight", "alpha", "gamma", "high", "delta"
        check_not_negative(self, names, "loss.")
        if self.high > 1:
            raise InputError(f"loss.high is {self.high}, but must be at most 1")

    def __call__(self, output: DenseOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a model."""
        matches = self.match(output, targets)
        classes = focal_sums(output.logits, matches, targets, alpha=self.alpha, gamma=self.gamma)
        truth = take_object(targets.boxes, matches.object)
        wanted = output.decoding.coder.encode(truth, output.anchors)
        # Huber's loss is smooth L1 times delta.
        errors = self.delta * smooth_l1(output.deltas.astype(jnp.float32) - wanted, self.delta)
        counted = matches.positive[..., None] & (wanted != 0)
        boxes = jnp.where(counted, errors, 0).sum(axis=(1, 2)) / 4
        losses = {
            "class": normalised(self.class_weight * classes, matches, targets, "batch", more=1.0),
            "box": normalised(self.box_weight * boxes, matches, targets, "batch", more=1.0),
        }
        return losses, dense_metrics(output, matches, targets)

    def match(self, output: DenseOutput, targets: Targets) -> Matches:
        """The object of each anchor."""
        rule = IouRule(self.high, self.high, low_quality="best_first")
        match, label = assign_by_iou(output.anchors, targets.boxes, rule, truth_valid=targets.valid)
        positive = label == 1
        overlap = box_ops.paired_iou(output.anchors, take_object(targets.boxes, match))
        fitting = positive & (overlap >= self.high)
        return Matches(match, positive, jnp.ones(positive.shape, bool), fitting)
