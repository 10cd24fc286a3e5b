"""The loss of YOLO v2 and v3 (arXiv 1612.08242, section 2; 1804.02767, sections 2.1 and 2.2).

Its gradients are darknet's, which are those of cross-entropies for the objectness, the place in the
cell, and the classes, and of half the squared error for the logarithms of width and height.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from zoo.losses.mean import Mean, Means
from zoo.models.detection.parts.dense_loss import Matches, dense_metrics
from zoo.models.detection.parts.samples import take_object
from zoo.models.detection.parts.yolo import YoloOutput
from zoo.ops import boxes as box_ops
from zoo.ops.assign_grid import assign_by_cell_iou, assign_by_shape
from zoo.outputs import Targets
from zoo.types import InputError, check_not_negative

Rule = Literal["shape", "cell_iou"]
_FITTING = 0.3  # least IoU of shapes with which an anchor is said to fit an object


@dataclasses.dataclass(frozen=True)
class YoloLoss:
    """The loss of a YOLO; all parts are sums over an image, and means over the images of a batch.

    The defaults are darknet's for YOLO v3; `DARKNET_V2` and `MMDET` are the settings of others.

    Attributes:
        rule: Which anchors are positive. ``shape``: see `zoo.ops.assign_grid.assign_by_shape`; all
            others are negative, except those whose predicted box has an IoU above `ignore` with an
            object. ``cell_iou``: mmdet's, see `assign_by_cell_iou` there.
        ignore: IoU above which a box that belongs to no object is not background; with
            ``cell_iou``, the threshold of that rule.
        box_weight: Weight of the losses of boxes.
        size_weight: Further weight of the squared errors of the logarithms of width and height.
        more_for_small: Whether the losses of a box are multiplied by 2 less the share of the image
            that the object covers.
        object_weight: Weight of the objectness of positive anchors.
        background_weight: Weight of the objectness of negative anchors.
        class_weight: Weight of the cross-entropy of classes, of positive anchors.
        iou_target: Whether the objectness should be the IoU of the predicted box with the object;
            else 1.
    """

    rule: Rule = "shape"
    ignore: float = 0.7
    box_weight: float = 1.0
    size_weight: float = 0.5
    more_for_small: bool = True
    object_weight: float = 1.0
    background_weight: float = 1.0
    class_weight: float = 1.0
    iou_target: bool = False

    def __post_init__(self) -> None:
        names = ("ignore", "box_weight", "size_weight", "object_weight", "background_weight")
        check_not_negative(self, (*names, "class_weight"), "loss.")
        if self.ignore > 1:
            raise InputError(f"loss.ignore is {self.ignore}, but must be at most 1")

    def __call__(self, output: YoloOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a model."""
        matches = self.match(output, targets)
        truth = take_object(targets.boxes, matches.object)
        boxes = jax.lax.stop_gradient(output.boxes())
        wanted = matches.positive.astype(jnp.float32)
        if self.iou_target:
            wanted = jnp.where(matches.positive, box_ops.paired_iou(boxes, truth), 0)
        objectness = output.objectness.astype(jnp.float32)
        weights = jnp.where(matches.positive, self.object_weight, self.background_weight)
        found = optax.sigmoid_binary_cross_entropy(objectness, wanted) * weights
        sums = {
            **self._box_losses(output, truth, matches),
            "objectness": jnp.where(matches.counted, found, 0).sum(axis=1),
            "class": self._class_loss(output, targets, matches),
        }
        images = targets.image_valid
        losses = {name: Mean.of(total, images) for name, total in sums.items()}
        metrics = dense_metrics(output, matches, targets)
        return losses, {**metrics, **anchor_metrics(output, matches, targets)}

    def match(self, output: YoloOutput, targets: Targets) -> Matches:
        """The object of each anchor."""
        truth, valid = targets.boxes, targets.valid
        if self.rule == "cell_iou":
            strides = jnp.asarray(output.strides())
            match, label = assign_by_cell_iou(output.anchors, strides, truth, valid, self.ignore)
            positive = label == 1
            return Matches(match, positive, label >= 0, positive)
        match, positive, fit = assign_by_shape(output.grid, output.shapes, truth, valid)
        boxes = jax.lax.stop_gradient(output.boxes())
        near = jnp.where(valid[..., None], box_ops.iou(truth, boxes), 0)
        near = (near > self.ignore).any(axis=1)
        fitting = positive & (take_object(fit, match) >= _FITTING)
        return Matches(match, positive, positive | ~near, fitting)

    def _box_losses(
        self, output: YoloOutput, truth: Float[Array, "b a 4"], matches: Matches
    ) -> dict[str, Float[Array, " b"]]:
        """The losses of places and of sizes, summed over the positive anchors of an image."""
        deltas, strides = output.deltas.astype(jnp.float32), jnp.asarray(output.strides())
        wanted = output.decoding.coder.encode(truth, output.anchors, strides)
        place = optax.sigmoid_binary_cross_entropy(deltas[..., :2], wanted[..., :2])
        size = self.size_weight * (deltas[..., 2:] - wanted[..., 2:]) ** 2
        weights = self.box_weight * matches.positive.astype(jnp.float32)
        if self.more_for_small:
            sides = (truth[..., 2:] - truth[..., :2]) / jnp.asarray(canvas(output))
            weights = weights * (2 - sides.prod(axis=-1))
        parts = {"place": place, "size": size}
        return {name: (x.sum(axis=-1) * weights).sum(axis=1) for name, x in parts.items()}

    def _class_loss(
        self, output: YoloOutput, targets: Targets, matches: Matches
    ) -> Float[Array, " b"]:
        """The cross-entropy of the classes, summed over the positive anchors of an image."""
        logits = output.logits.astype(jnp.float32)
        labels = take_object(targets.labels, matches.object)
        if output.decoding.classes == "softmax":
            found = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        else:
            wanted = jax.nn.one_hot(labels, logits.shape[-1])
            found = optax.sigmoid_binary_cross_entropy(logits, wanted).sum(axis=-1)
        return self.class_weight * jnp.where(matches.positive, found, 0).sum(axis=1)


DARKNET_V2 = YoloLoss(ignore=0.6, object_weight=5.0, iou_target=True)
"""The settings of darknet's ``cfg/yolov2.cfg``; the tiny network's have no `iou_target`."""

MMDET = YoloLoss(rule="cell_iou", ignore=0.5, box_weight=2.0, size_weight=1.0, more_for_small=False)
"""The settings of mmdet's configurations of YOLO v3, which add up images instead of their mean."""


def canvas(output: YoloOutput) -> Float[np.ndarray, " 2"]:
    """Width and height of the padded batch in pixels."""
    (rows, columns), stride = output.shapes[0], output.grid.strides[0]
    return np.array([columns * stride, rows * stride], np.float32)


def anchor_metrics(output: YoloOutput, matches: Matches, targets: Targets) -> Means:
    """``positive_anchor_0`` and so on: objects of each anchor of a cell, as a mean over images.

    The anchors are numbered as in the settings of the model, through all levels.
    """
    images, start, metrics = targets.image_valid, 0, {}
    for size, count in zip(output.level_sizes, output.grid.num_per_cell, strict=True):
        level = matches.positive[:, start : start + size]
        totals = level.reshape(len(level), -1, count).sum(axis=1, dtype=jnp.float32)
        for k in range(count):
            metrics[f"positive_anchor_{len(metrics)}"] = Mean.of(totals[:, k], images)
        start += size
    return metrics
