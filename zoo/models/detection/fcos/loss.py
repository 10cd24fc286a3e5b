"""FCOS's loss (arXiv 1904.01355, section 3.1; improvements: arXiv 2006.09214, section 3.1)."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from zoo.losses.mean import Mean, Means
from zoo.models.detection.parts.dense import DenseOutput
from zoo.models.detection.parts.dense_loss import (
    Matches,
    dense_metrics,
    focal_sums,
    normalised,
)
from zoo.models.detection.parts.samples import take_object
from zoo.ops import boxes as box_ops
from zoo.ops.assign_points import PointRule, assign_points, level_ranges
from zoo.ops.distance_coder import DistanceCoder
from zoo.outputs import Targets
from zoo.types import check_not_negative

BoxLoss = Literal["giou", "iou"]
_LEAST_IOU = 1e-6  # whose logarithm is finite; mmdet's number


@dataclasses.dataclass(frozen=True)
class FCOSLoss:
    """The loss of an FCOS; the defaults are torchvision's.

    mmdet has ``closed=True, weighted_boxes=True``, and in the first paper's models ``box="iou",
    radius=None``.

    Attributes:
        class_weight: Weight of the focal loss.
        box_weight: Weight of the loss of the boxes of positive points.
        box: ``giou``: 1 - GIoU. ``iou``: the negative logarithm of the IoU, as in the first paper.
        centerness_weight: Weight of the cross-entropy of their centerness.
        alpha: Weight of the right class of a positive point in the focal loss.
        gamma: Exponent of the focal loss.
        radius: See `zoo.ops.assign_points.PointRule`.
        closed: See there.
        weighted_boxes: Whether the losses of boxes are weighted by the centerness that the point
            should have, as in the authors' code and mmdet; the sum of the weights then divides.
    """

    class_weight: float = 1.0
    box_weight: float = 1.0
    box: BoxLoss = "giou"
    centerness_weight: float = 1.0
    alpha: float = 0.25
    gamma: float = 2.0
    radius: float | None = 1.5
    closed: bool = False
    weighted_boxes: bool = False

    def __post_init__(self) -> None:
        names = "class_weight", "box_weight", "centerness_weight", "alpha", "gamma", "radius"
        check_not_negative(self, names, "loss.")

    def __call__(self, output: DenseOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a model."""
        if output.centerness is None:
            raise ValueError("the loss needs an output with centerness")
        matches = self.match(output, targets)
        classes = focal_sums(output.logits, matches, targets, alpha=self.alpha, gamma=self.gamma)
        truth = take_object(targets.boxes, matches.object)
        wanted = centerness(truth, output.anchors)
        entropy = optax.sigmoid_binary_cross_entropy(output.centerness, wanted)
        entropy = jnp.where(matches.positive, entropy, 0).sum(axis=1)
        losses = {
            "class": normalised(self.class_weight * classes, matches, targets, "batch"),
            "box": self.of_boxes(output, truth, wanted, matches, targets),
            "centerness": normalised(self.centerness_weight * entropy, matches, targets, "batch"),
        }
        return losses, dense_metrics(output, matches, targets)

    def match(self, output: DenseOutput, targets: Targets) -> Matches:
        """The object of each point."""
        match, positive = assign_points(
            output.anchors,
            level_ranges(output.level_sizes, output.limits),
            targets.boxes,
            PointRule(self.radius, self.closed),
            truth_valid=targets.valid,
        )
        return Matches(match, positive, jnp.ones(positive.shape, bool), positive)

    def of_boxes(
        self,
        output: DenseOutput,
        truth: Float[Array, "b a 4"],
        wanted: Float[Array, "b a"],
        matches: Matches,
        targets: Targets,
    ) -> Mean:
        """The loss of the boxes of positive points; `wanted` is their centerness."""
        deltas = output.deltas.astype(jnp.float32)
        found = output.decoding.coder.decode(deltas, output.anchors)
        if self.box == "giou":
            distance = 1 - box_ops.paired_giou(found, truth)
        else:
            distance = -jnp.log(jnp.maximum(box_ops.paired_iou(found, truth), _LEAST_IOU))
        distance = jnp.where(matches.positive, distance, 0)
        if not self.weighted_boxes:
            sums = self.box_weight * distance.sum(axis=1)
            return normalised(sums, matches, targets, "batch")
        weights = jnp.where(matches.positive & targets.image_valid[:, None], wanted, 0)
        return Mean.of(self.box_weight * distance, weights)


def centerness(truth: Float[Array, "b a 4"], anchors: Float[Array, "b a 4"]) -> Float[Array, "b a"]:
    """How near to its centre a point in a box is, 0..1 (equation 3); 0 for points outside."""
    distances = DistanceCoder().encode(truth, anchors)
    left, top, right, bottom = jnp.unstack(jnp.maximum(distances, 0), axis=-1)
    across = _ratio(left, right)
    return jnp.sqrt(across * _ratio(top, bottom))


def _ratio(a: Float[Array, "b a"], b: Float[Array, "b a"]) -> Float[Array, "b a"]:
    """The smaller number divided by the larger one; 0 if both are 0."""
    larger = jnp.maximum(a, b)
    return jnp.minimum(a, b) / jnp.where(larger > 0, larger, 1)
