"""Chooses the anchors and the regions that a two-stage detector is trained on.

Faster R-CNN (arXiv 1506.01497, section 3.1.3) for the anchors; Fast R-CNN (arXiv 1504.08083,
section 2.3) for the regions. torchvision and detectron2 have the same numbers.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from zoo.models.detection.parts.outputs import AnchorSamples, RoiSamples
from zoo.ops.assign import IouRule, assign_by_iou
from zoo.ops.sampling import sample_balanced
from zoo.outputs import Targets


@dataclasses.dataclass(frozen=True)
class AnchorSampling:
    """Which anchors the losses of the proposals are computed for.

    Attributes:
        num: Anchors of an image.
        positive_fraction: Largest share of positive ones.
        high: An anchor is positive if its IoU with an object is at least this, or the object's
            largest.
        low: It is negative if its largest IoU is below this.
        ignored_iou: And if its largest IoU with an ignored object is below this, too; SNIPER's.
    """

    num: int = 256
    positive_fraction: float = 0.5
    high: float = 0.7
    low: float = 0.3
    ignored_iou: float = 0.3

    def __call__(
        self, anchors: Float[Array, "a 4"], targets: Targets, keys: Key[Array, " b"] | None
    ) -> AnchorSamples:
        """Samples anchors of each image, the first ones if there are no keys."""
        anchors = jnp.broadcast_to(anchors, (targets.boxes.shape[0], *anchors.shape))
        match, label = self.assign(anchors, targets)
        index, drawn = sample_balanced(label, self.num, self.positive_fraction, keys)
        positive = drawn & (take(label, index) == 1)
        return AnchorSamples(index, drawn, positive, take(match, index))

    def assign(
        self, anchors: Float[Array, "b a 4"], targets: Targets
    ) -> tuple[Int[Array, "b a"], Int[Array, "b a"]]:
        """The object of each anchor and its label, 1, 0 or -1: see `assign_by_iou`."""
        rule = IouRule(self.high, self.low, low_quality="ties")
        match, label = assign_by_iou(anchors, targets.boxes, rule, truth_valid=targets.valid)
        return match, spare_ignored(label, anchors, targets, self.ignored_iou)


@dataclasses.dataclass(frozen=True)
class RoiSampling:
    """Which regions the heads are trained on.

    Attributes:
        num: Regions of an image.
        positive_fraction: Largest share of positive ones.
        high: A region is positive if its largest IoU with an object is at least this.
        low: It is background if its largest IoU is below this.
        background_floor: And at least this: 0.1 in Fast R-CNN.
        ignored_iou: And if its largest IoU with an ignored object is below this, too.
        add_truth: Whether the true boxes are among the regions.
    """

    num: int = 512
    positive_fraction: float = 0.25
    high: float = 0.5
    low: float = 0.5
    background_floor: float = 0.0
    ignored_iou: float = 0.5
    add_truth: bool = True

    @property
    def most_positive(self) -> int:
        """The number of first rows that can be positive."""
        return int(self.num * self.positive_fraction)

    def __call__(
        self,
        boxes: Float[Array, "b r 4"],
        valid: Bool[Array, "b r"],
        targets: Targets,
        num_classes: int,
        keys: Key[Array, " b"] | None,
    ) -> RoiSamples:
        """Samples regions of each image, the first ones if there are no keys.

        Args:
            boxes: Proposals, ``xyxy`` in pixels.
            valid: False for filling.
            targets: The objects.
            num_classes: The label of the background.
            keys: A random key for each image.
        """
        if self.add_truth:
            boxes = jnp.concatenate([boxes, targets.boxes.astype(boxes.dtype)], axis=1)
            valid = jnp.concatenate([valid, targets.valid], axis=1)
        rule = IouRule(self.high, self.low, self.background_floor)
        match, label = assign_by_iou(
            boxes, targets.boxes, rule, truth_valid=targets.valid, candidate_valid=valid
        )
        label = spare_ignored(label, boxes, targets, self.ignored_iou)
        index, drawn = sample_balanced(label, self.num, self.positive_fraction, keys)
        label = jnp.where(drawn, take(label, index), -1)
        return _labelled(take(boxes, index), label, take(match, index), targets, num_classes)


def relabel(
    boxes: Float[Array, "b s 4"],
    drawn: Bool[Array, "b s"],
    targets: Targets,
    num_classes: int,
    iou: float,
) -> RoiSamples:
    """Compares boxes that a head has refined with the objects anew; none is drawn.

    Args:
        boxes: ``xyxy`` in pixels. Those without width or height are filling from now on.
        drawn: False for filling.
        targets: The objects.
        num_classes: The label of the background.
        iou: A region is positive if its largest IoU with an object is at least this, and else
            filling if its largest IoU with an ignored object is.
    """
    drawn &= (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)
    match, label = assign_by_iou(
        boxes,
        targets.boxes,
        IouRule(iou, iou),
        truth_valid=targets.valid,
        candidate_valid=drawn,
    )
    label = spare_ignored(label, boxes, targets, iou)
    return _labelled(boxes, label, match, targets, num_classes)


def spare_ignored(
    label: Int[Array, "b n"], boxes: Float[Array, "b n 4"], targets: Targets, iou: float
) -> Int[Array, "b n"]:
    """The labels 1, 0 and -1 of boxes, where 0 becomes -1 if an ignored object is overlapped.

    Args:
        label: As from `assign_by_iou`.
        boxes: ``xyxy`` in pixels.
        targets: Their `ignored` says which objects are ignored.
        iou: The least IoU with such an object.
    """
    if targets.ignored is None:
        return label
    rule = IouRule(iou, iou)
    _, near = assign_by_iou(boxes, targets.boxes, rule, truth_valid=targets.ignored)
    return jnp.where((label == 0) & (near == 1), -1, label)


def _labelled(
    boxes: Float[Array, "b s 4"],
    label: Int[Array, "b s"],
    match: Int[Array, "b s"],
    targets: Targets,
    num_classes: int,
) -> RoiSamples:
    """Regions with their classes; `label` is that of `assign_by_iou`, -1 for filling."""
    positive = label == 1
    labels = jnp.where(positive, take_object(targets.labels, match), num_classes)
    return RoiSamples(boxes, label >= 0, positive, match, labels)


def take(values: Shaped[Array, "b n *d"], index: Int[Array, "b s"]) -> Shaped[Array, "b s *d"]:
    """The rows of each image with the given numbers."""
    return jnp.take_along_axis(values, index.reshape(*index.shape, *[1] * (values.ndim - 2)), 1)


def take_object(
    values: Shaped[Array, "b m *d"], match: Int[Array, "b s"]
) -> Shaped[Array, "b s *d"]:
    """Values of the matched objects; zeros if no image has room for an object."""
    if values.shape[1] == 0:
        return jnp.zeros((*match.shape, *values.shape[2:]), values.dtype)
    return take(values, match)
