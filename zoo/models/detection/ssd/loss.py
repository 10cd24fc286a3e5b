"""SSD's loss (arXiv 1512.02325, section 2.2): cross-entropy with hard negatives, smooth L1."""

import dataclasses

import jax.numpy as jnp
import optax

from zoo.losses.boxes import smooth_l1
from zoo.losses.mean import Means
from zoo.models.detection.parts.dense import DenseOutput
from zoo.models.detection.parts.dense_loss import (
    Matches,
    dense_metrics,
    normalised,
)
from zoo.models.detection.parts.samples import take_object
from zoo.ops import boxes as box_ops
from zoo.ops.assign import IouRule, assign_by_iou
from zoo.ops.sampling import hardest_negatives
from zoo.outputs import Targets
from zoo.types import InputError, check_not_negative


@dataclasses.dataclass(frozen=True)
class SSDLoss:
    """The loss of an SSD; both parts are divided by the number of positive boxes of the batch.

    Attributes:
        class_weight: Weight of the cross-entropy.
        box_weight: Weight of smooth L1 of the deltas of positive boxes.
        high: A default box is positive if its IoU with an object is at least this, or if no other
            one overlaps the object more.
        negatives: Number of negative boxes, those with the largest cross-entropy, for each positive
            one of an image.
    """

    class_weight: float = 1.0
    box_weight: float = 1.0
    high: float = 0.5
    negatives: float = 3.0

    def __post_init__(self) -> None:
        check_not_negative(self, ("class_weight", "box_weight", "high", "negatives"), "loss.")
        if self.high > 1:
            raise InputError(f"loss.high is {self.high}, but must be at most 1")

    def __call__(self, output: DenseOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a model."""
        matches = self.match(output, targets)
        logits = output.logits.astype(jnp.float32)
        labels = take_object(targets.labels, matches.object)
        labels = jnp.where(matches.positive, labels, logits.shape[-1] - 1)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        chosen = matches.positive | hardest_negatives(matches.positive, entropy, self.negatives)
        classes = jnp.where(chosen, entropy, 0).sum(axis=1)

        truth = take_object(targets.boxes, matches.object)
        wanted = output.decoding.coder.encode(truth, output.anchors)
        errors = smooth_l1(output.deltas.astype(jnp.float32) - wanted).sum(axis=-1)
        boxes = jnp.where(matches.positive, errors, 0).sum(axis=1)
        losses = {
            "class": normalised(self.class_weight * classes, matches, targets, "batch"),
            "box": normalised(self.box_weight * boxes, matches, targets, "batch"),
        }
        return losses, dense_metrics(output, matches, targets)

    def match(self, output: DenseOutput, targets: Targets) -> Matches:
        """The object of each default box."""
        rule = IouRule(self.high, self.high, low_quality="best")
        match, label = assign_by_iou(output.anchors, targets.boxes, rule, truth_valid=targets.valid)
        positive = label == 1
        overlap = box_ops.paired_iou(output.anchors, take_object(targets.boxes, match))
        fitting = positive & (overlap >= self.high)
        return Matches(match, positive, jnp.ones(positive.shape, bool), fitting)
