"""YOLO v1's loss (arXiv 1506.02640, equation 3)."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from zoo.losses.mean import Mean, Means
from zoo.models.detection.parts.dense_loss import Matches, dense_metrics
from zoo.models.detection.parts.samples import take_object
from zoo.models.detection.parts.yolo import YoloOutput
from zoo.ops import boxes as box_ops
from zoo.outputs import Targets
from zoo.types import check_not_negative


@dataclasses.dataclass(frozen=True)
class YoloV1Loss:
    """Sums of squared errors over an image, as means over the images of a batch.

    A cell belongs to the first object whose centre is in it. Of the boxes of the cell, the one with
    the largest IoU with the object is responsible for it; if none overlaps it, the one with the
    least distance of centre and size, as in darknet.

    Attributes:
        box_weight: Weight of the errors of x, y, and of the roots of width and height.
        object_weight: Weight of the error of the objectness of responsible boxes, whose target is
            their IoU.
        background_weight: Weight of the objectness of all others, whose target is 0.
        class_weight: Weight of the errors of the classes in cells with an object.
    """

    box_weight: float = 5.0
    object_weight: float = 1.0
    background_weight: float = 0.5
    class_weight: float = 1.0

    def __post_init__(self) -> None:
        names = "box_weight", "object_weight", "background_weight", "class_weight"
        check_not_negative(self, names, "loss.")

    def __call__(self, output: YoloOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a model."""
        matches = self.match(output, targets)
        positive, truth = matches.positive, take_object(targets.boxes, matches.object)
        boxes = jax.lax.stop_gradient(output.boxes())
        iou = jnp.where(positive, box_ops.paired_iou(boxes, truth), 0)
        deltas, strides = output.deltas.astype(jnp.float32), jnp.asarray(output.strides())
        wanted = output.decoding.coder.encode(truth, output.anchors, strides)
        labels = take_object(targets.labels, matches.object)
        classes = output.logits.astype(jnp.float32) - jax.nn.one_hot(
            labels, output.logits.shape[-1]
        )
        weights = jnp.where(positive, self.object_weight, self.background_weight)
        errors = {
            "box": self.box_weight * ((deltas - wanted) ** 2).sum(axis=-1) * positive,
            "objectness": weights * (output.objectness.astype(jnp.float32) - iou) ** 2,
            "class": self.class_weight * (classes**2).sum(axis=-1) * positive,
        }
        images = targets.image_valid
        losses = {name: Mean.of(x.sum(axis=1), images) for name, x in errors.items()}
        return losses, dense_metrics(output, matches, targets)

    def match(self, output: YoloOutput, targets: Targets) -> Matches:
        """The object of each box, of a responsible one; all boxes count."""
        (rows, columns), count = output.shapes[0], output.grid.num_per_cell[0]
        match, there = _first_objects(targets, rows, columns, output.grid.strides[0])
        match, there = (jnp.repeat(x, count, axis=1) for x in (match, there))
        boxes = jax.lax.stop_gradient(output.boxes())
        truth = take_object(targets.boxes, match)
        iou = box_ops.paired_iou(boxes, truth)
        # A rank that is above 0 for overlaps, and below 0 and larger for nearer boxes without.
        rank = jnp.where(iou > 0, iou, -_distance(boxes, truth))
        by_cell = rank.reshape(len(rank), rows * columns, count)
        best = by_cell.argmax(axis=-1, keepdims=True) == jnp.arange(count)
        positive = there & best.reshape(rank.shape)
        return Matches(match, positive, jnp.ones(positive.shape, bool), positive)


def _first_objects(
    targets: Targets, rows: int, columns: int, stride: int
) -> tuple[Int[Array, "b n"], Bool[Array, "b n"]]:
    """The first object with its centre in each cell, 0 if there is none, and whether there is."""
    b, m = targets.labels.shape
    centre = (targets.boxes[..., :2] + targets.boxes[..., 2:]) / 2 / stride
    limit = jnp.array([columns - 1, rows - 1])
    cell = jnp.clip(jnp.floor(centre).astype(jnp.int32), 0, limit)
    slot = jnp.where(targets.valid, cell[..., 1] * columns + cell[..., 0], rows * columns)
    owner = jnp.full((b, rows * columns), m, jnp.int32)
    owner = owner.at[jnp.arange(b)[:, None], slot].min(jnp.arange(m, dtype=jnp.int32), mode="drop")
    return jnp.where(owner < m, owner, 0), owner < m


def _distance(a: Float[Array, "b a 4"], b: Float[Array, "b a 4"]) -> Float[Array, "b a"]:
    """The distance of boxes as points of centre, width and height."""

    def point(x: Float[Array, "b a 4"]) -> Float[Array, "b a 4"]:
        low, high = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([(low + high) / 2, high - low], axis=-1)

    return jnp.sqrt(((point(a) - point(b)) ** 2).sum(axis=-1))
