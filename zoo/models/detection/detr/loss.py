"""DETR's loss: detection as set prediction (arXiv 2005.12872, section 3.1 and appendix A.2).

Sums and their normalisers are returned separately, so that they can be added up over parts of a
batch, devices and hosts. Every figure of the reference (facebookresearch/detr) is a sum over the
global batch, divided by the sum of its normaliser over the global batch.
"""

import dataclasses
from typing import no_type_check

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from zoo.losses.mean import Mean, Means
from zoo.models.detection.detr.model import DetrOutput
from zoo.ops import boxes as box_ops
from zoo.ops.matching import match
from zoo.outputs import Targets
from zoo.types import InputError, check_not_negative


@dataclasses.dataclass(frozen=True)
class DetrLoss:
    """The loss of a DETR: each target is matched with one query, each query with at most one.

    Attributes:
        class_weight: Weight of the cross-entropy in the loss.
        l1_weight: Weight of the boxes' L1 distance in the loss.
        giou_weight: Weight of 1 - GIoU in the loss.
        focal_weight: Weight of the masks' focal loss, for a model and data with masks.
        dice_weight: Weight of the masks' dice loss, likewise.
        class_cost: Weight of the class's probability in the matching.
        l1_cost: Weight of the boxes' L1 distance in the matching.
        giou_cost: Weight of GIoU in the matching.
        no_object_weight: Weight of a query that no object is matched to, in the cross-entropy.
    """

    class_weight: float = 1.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0
    focal_weight: float = 1.0
    dice_weight: float = 1.0
    class_cost: float = 1.0
    l1_cost: float = 5.0
    giou_cost: float = 2.0
    no_object_weight: float = 0.1

    def __post_init__(self) -> None:
        check_not_negative(self, (field.name for field in dataclasses.fields(self)), "loss.")

    def __call__(self, output: DetrOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses of all decoder layers, and metrics of the final one.

        Raises:
            InputError: If the targets' masks are in frames.
        """
        if output.masks is not None and targets.mask_frames is not None:
            raise InputError("DETR learns masks of the whole image: set data.mask_size=none")
        sums = set_losses(
            jnp.concatenate([output.auxiliary_logits, output.logits[None]]),
            jnp.concatenate([output.auxiliary_boxes_cxcywh, output.boxes_cxcywh[None]]),
            targets.labels,
            relative_boxes(targets),
            targets.valid,
            valid_images=targets.image_valid,
            no_object_weight=self.no_object_weight,
            class_cost=self.class_cost,
            l1_cost=self.l1_cost,
            giou_cost=self.giou_cost,
        )
        losses = {
            "class": Mean(self.class_weight * sums.classes.sum(), sums.class_weight),
            "l1": Mean(self.l1_weight * sums.l1.sum(), sums.num_boxes),
            "giou": Mean(self.giou_weight * sums.giou.sum(), sums.num_boxes),
        }
        if output.masks is not None and targets.masks is not None:
            valid = targets.valid & targets.image_valid[:, None]
            focal, dice = mask_losses(output.masks, targets.masks, sums.queries[-1], valid)
            losses["focal"] = Mean(self.focal_weight * focal, sums.num_boxes)
            losses["dice"] = Mean(self.dice_weight * dice, sums.num_boxes)
        metrics = {
            "class_accuracy": Mean(sums.class_hits, sums.num_boxes),
            "cardinality_error": Mean(sums.cardinality_error, sums.num_images),
        }
        return losses, metrics


def relative_boxes(targets: Targets) -> Float[Array, "b m 4"]:
    """The targets' boxes as cxcywh, relative to each image's own size, 0..1; 0.5 for padding."""
    size = targets.sizes.astype(jnp.float32)[:, ::-1]  # width, height
    boxes = box_ops.xyxy_to_cxcywh(targets.boxes) / jnp.tile(size, 2)[:, None]
    return jnp.where(targets.valid[..., None], boxes, 0.5)


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class SetLosses(struct.PyTreeNode):
    """Sums over a batch, without the losses' weights; axis l is decoder layers, the final one last.

    The reference's losses are ``classes / class_weight``, ``l1 / num_boxes`` and
    ``giou / num_boxes`` of each layer, added up over layers with weights 1, 5 and 2; if the
    global batch has no boxes, the last two are 0.

    Attributes:
        classes: Sum of the queries' cross-entropies, each with the weight of its query.
        class_weight: Sum of the queries' weights; the same for every layer, because each layer
            matches all targets.
        l1: Sum of absolute differences of matched boxes' four coordinates, cxcywh in 0..1.
        giou: Sum of 1 - GIoU of matched boxes.
        num_boxes: Number of targets.
        class_hits: Number of targets whose class is the most probable one of their query, in the
            final layer.
        cardinality_error: Sum over images of the absolute difference between the number of queries
            whose most probable class is an object, in the final layer, and the number of targets.
        num_images: Number of images.
        queries: The query of each target; for padded targets q, which is no query.
    """

    classes: Float[Array, " l"]
    class_weight: Float[Array, ""]
    l1: Float[Array, " l"]
    giou: Float[Array, " l"]
    num_boxes: Float[Array, ""]
    class_hits: Float[Array, ""]
    cardinality_error: Float[Array, ""]
    num_images: Float[Array, ""]
    queries: Int[Array, "l b m"]


def matching_costs(
    logits: Float[Array, "*l b q k"],
    boxes_cxcywh: Float[Array, "*l b q 4"],
    labels: Int[Array, "b m"],
    target_boxes_cxcywh: Float[Array, "b m 4"],
    *,
    class_cost: float = 1.0,
    l1_cost: float = 5.0,
    giou_cost: float = 2.0,
) -> Float[Array, "*l b q m"]:
    """Costs of matching each query with each target: weighted sums of -probability, L1 and -GIoU.

    Args:
        logits: Logits of the classes and, last, of no object.
        boxes_cxcywh: Predicted boxes, in 0..1.
        labels: Classes of the targets; any number for padding.
        target_boxes_cxcywh: Boxes of the targets, in 0..1.
        class_cost: Weight of the probability of the target's class.
        l1_cost: Weight of the sum of the four coordinates' absolute differences.
        giou_cost: Weight of GIoU.
    """
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    index = jnp.clip(labels, 0, logits.shape[-1] - 1)[:, None]  # b 1 m
    index = jnp.broadcast_to(index, (*logits.shape[:-1], labels.shape[-1]))
    probability = jnp.take_along_axis(probabilities, index, axis=-1)

    boxes = boxes_cxcywh.astype(jnp.float32)
    pairs = zip(jnp.unstack(boxes, axis=-1), jnp.unstack(target_boxes_cxcywh, axis=-1), strict=True)
    l1 = jnp.zeros(())
    for ours, theirs in pairs:  # no arrays with a last axis of length 4
        l1 = l1 + jnp.abs(ours[..., :, None] - theirs[:, None, :])
    targets = jnp.broadcast_to(target_boxes_cxcywh, (*boxes.shape[:-2], *labels.shape[-1:], 4))
    giou = box_ops.giou(box_ops.cxcywh_to_xyxy(boxes), box_ops.cxcywh_to_xyxy(targets))
    return l1_cost * l1 - class_cost * probability - giou_cost * giou


def set_losses(
    logits: Float[Array, "l b q k"],
    boxes_cxcywh: Float[Array, "l b q 4"],
    labels: Int[Array, "b m"],
    target_boxes_cxcywh: Float[Array, "b m 4"],
    valid: Bool[Array, "b m"],
    *,
    valid_images: Bool[Array, " b"] | None = None,
    no_object_weight: float = 0.1,
    class_cost: float = 1.0,
    l1_cost: float = 5.0,
    giou_cost: float = 2.0,
) -> SetLosses:
    """Matches every layer's queries with the targets, and sums up the losses of each layer.

    Args:
        logits: Logits of the classes and, last, of no object; the final layer is last.
        boxes_cxcywh: Predicted boxes, in 0..1.
        labels: Classes of the targets; any number for padding.
        target_boxes_cxcywh: Boxes of the targets, relative to each image's own size, 0..1; finite
            for padding, too.
        valid: False for padded targets.
        valid_images: False for images that only fill up the batch; they have no loss.
        no_object_weight: Weight of queries without a target in the cross-entropy.
        class_cost: Weight of the probability of the target's class, only for matching.
        l1_cost: Weight of the sum of the four coordinates' absolute differences, likewise.
        giou_cost: Weight of GIoU, likewise.
    """
    logits, boxes = logits.astype(jnp.float32), boxes_cxcywh.astype(jnp.float32)
    images = jnp.ones(labels.shape[0], bool) if valid_images is None else valid_images
    valid = valid & images[:, None]
    weights = {"class_cost": class_cost, "l1_cost": l1_cost, "giou_cost": giou_cost}
    costs = matching_costs(
        *jax.lax.stop_gradient((logits, boxes)), labels, target_boxes_cxcywh, **weights
    )
    queries = match(costs, jnp.broadcast_to(valid, (logits.shape[0], *valid.shape)))

    no_object = logits.shape[-1] - 1
    layer, image = jnp.ogrid[: logits.shape[0], : labels.shape[0]]
    wanted = jnp.full(logits.shape[:-1], no_object)
    wanted = wanted.at[layer[..., None], image[..., None], queries].set(labels, mode="drop")
    weight = jnp.where(wanted == no_object, no_object_weight, 1.0) * images[:, None]
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, wanted)

    found = jnp.take_along_axis(boxes, queries[..., None], axis=2, mode="clip")
    l1 = jnp.abs(found - target_boxes_cxcywh).sum(axis=-1)
    targets = jnp.broadcast_to(target_boxes_cxcywh, found.shape)
    giou = box_ops.paired_giou(box_ops.cxcywh_to_xyxy(found), box_ops.cxcywh_to_xyxy(targets))

    likeliest = logits[-1].argmax(axis=-1)
    hits = (likeliest == wanted[-1]) & (wanted[-1] != no_object)
    predicted = (likeliest != no_object).sum(axis=-1)
    errors = jnp.abs(predicted - valid.sum(axis=-1)) * images
    return SetLosses(
        classes=(entropy * weight).sum(axis=(1, 2)),
        class_weight=weight[-1].sum(),
        l1=jnp.where(valid, l1, 0).sum(axis=(1, 2)),
        giou=jnp.where(valid, 1 - giou, 0).sum(axis=(1, 2)),
        num_boxes=valid.sum(dtype=jnp.float32),
        class_hits=hits.sum(dtype=jnp.float32),
        cardinality_error=errors.sum(dtype=jnp.float32),
        num_images=images.sum(dtype=jnp.float32),
        queries=queries,
    )


def mask_losses(
    masks: Float[Array, "b q h w"],
    target_masks: Bool[Array, "b m rows columns"],
    queries: Int[Array, "b m"],
    valid: Bool[Array, "b m"],
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The sum of the focal losses and the sum of the dice losses of the matched masks.

    The caller divides both by the global number of boxes. Logits are interpolated to the size of
    the targets. Pixels of the padding count as pixels outside the object.

    Args:
        masks: Logits of each query's mask.
        target_masks: True inside the object.
        queries: The query of each target, as `match` gives it.
        valid: False for padded targets.
        alpha: Weight of pixels inside the object in the focal loss; the others have 1 - alpha.
        gamma: Exponent of the focal loss.
    """
    found = jnp.take_along_axis(masks, queries[..., None, None], axis=1, mode="clip")
    found = jax.image.resize(
        found.astype(jnp.float32), target_masks.shape, "bilinear", antialias=False
    )
    targets = target_masks.astype(jnp.float32)
    focal = optax.sigmoid_focal_loss(found, targets, alpha=alpha, gamma=gamma).mean(axis=(2, 3))
    inside = jax.nn.sigmoid(found)
    overlap = (inside * targets).sum(axis=(2, 3))
    sizes = inside.sum(axis=(2, 3)) + targets.sum(axis=(2, 3))
    dice = 1 - (2 * overlap + 1) / (sizes + 1)
    return jnp.where(valid, focal, 0).sum(), jnp.where(valid, dice, 0).sum()
