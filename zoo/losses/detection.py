"""Losses of detection as set prediction (DETR, arXiv 2005.12872, section 3.1 and appendix A.2).

Sums and what they are to be divided by are given apart, so that they can be added up over the
parts of a batch, devices and hosts: every figure of the reference (facebookresearch/detr) is a sum
over the whole global batch divided by the sum of its normaliser over the same.
"""

from typing import no_type_check

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from zoo.ops import boxes as box_ops
from zoo.ops.matching import match


@no_type_check  # JAX makes trees of anything of it
class SetLosses(struct.PyTreeNode):
    """Sums over the images of a batch, unweighted; ``l`` counts decoder layers, the final one last.

    The reference's losses are ``classes / class_weight``, ``l1 / num_boxes`` and
    ``giou / num_boxes`` of each layer, added up over layers with weights 1, 5 and 2; without any
    boxes in the global batch the last two are 0, as their sums are.

    Attributes:
        classes: Cross-entropy of the queries, weighted.
        class_weight: Weights of the queries; the same for every layer, since each matches all
            targets.
        l1: Absolute differences of the four coordinates of matched boxes, cxcywh in 0..1.
        giou: 1 - GIoU of matched boxes.
        num_boxes: Targets.
        class_hits: Targets whose query, in the final layer, has their class as its likeliest.
        cardinality_error: Absolute differences between the numbers of queries whose likeliest class
            is an object, in the final layer, and of targets.
        num_images: Images.
        queries: The query of each target; padded targets have q, one beyond the last.
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
    """What it costs to match each query with each target: -probability, L1 and -GIoU, weighted.

    Args:
        logits: Of the classes and, last, of no object.
        boxes_cxcywh: Predicted, in 0..1.
        labels: Classes of the targets; any number for padding.
        target_boxes_cxcywh: In 0..1.
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
    for ours, theirs in pairs:  # one plane a coordinate, instead of a last axis of length 4
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
        logits: Of the classes and, last, of no object; the final layer's last.
        boxes_cxcywh: Predicted, in 0..1.
        labels: Classes of the targets; any number for padding.
        target_boxes_cxcywh: In 0..1 of each image's own size; finite, for padding too.
        valid: False for padded targets.
        valid_images: False for images that only fill up the batch; they have no loss.
        no_object_weight: Weight of queries without a target in the cross-entropy.
        class_cost: Weight of the probability of the target's class, in matching alone.
        l1_cost: Weight of the sum of the four coordinates' absolute differences, likewise.
        giou_cost: Weight of GIoU, likewise.
    """
    logits, boxes = logits.astype(jnp.float32), boxes_cxcywh.astype(jnp.float32)
    images = jnp.ones(len(labels), bool) if valid_images is None else valid_images
    valid = valid & images[:, None]
    weights = {"class_cost": class_cost, "l1_cost": l1_cost, "giou_cost": giou_cost}
    costs = matching_costs(
        *jax.lax.stop_gradient((logits, boxes)), labels, target_boxes_cxcywh, **weights
    )
    queries = match(costs, jnp.broadcast_to(valid, (len(logits), *valid.shape)))

    no_object = logits.shape[-1] - 1
    layer, image = jnp.ogrid[: len(logits), : len(labels)]
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
    """Sums of the focal and the dice losses of the masks that are matched.

    Both are to be divided by the global number of boxes. Logits are interpolated to the size of the
    targets; pixels of an image's padding count, as pixels outside the object.

    Args:
        masks: Logits.
        target_masks: True inside the object.
        queries: The query of each target, as `match` gives it.
        valid: False for padded targets.
        alpha: Weight of pixels inside the object in the focal loss, 1 - alpha that of the others.
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
