"""Converts classified regions to detections, as R-CNNs do."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from zoo.models.detection.parts.inputs import clip_to_sizes
from zoo.models.detection.parts.outputs import RegionOutput, TwoStageOutput
from zoo.models.detection.parts.samples import take
from zoo.ops.box_coder import BoxCoder
from zoo.ops.nms import nms, select
from zoo.outputs import Detections

ROI_CODER = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
"""How the boxes of regions are encoded, except in the later stages of a cascade."""


@dataclasses.dataclass(frozen=True)
class RoiDecoding:
    """Which classified regions become detections; the defaults are torchvision's.

    Attributes:
        score_threshold: Only scores above this.
        iou_threshold: A box that overlaps a better one of its class more than this is dropped.
        most: Largest number of detections of an image.
        candidates: Best pairs of region and class that are considered. The references have no such
            limit; it matters only if more scores are above the threshold.
        min_size: Boxes with a smaller width or height in pixels, after clipping, are dropped;
            detectron2 drops none.
        coder: How the boxes are encoded.
    """

    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    most: int = 100
    candidates: int = 2000
    min_size: float = 1e-2
    coder: BoxCoder = ROI_CODER

    def from_logits(
        self,
        class_logits: Float[Array, "b r classes"],
        box_deltas: Float[Array, "b r k 4"],
        boxes: Float[Array, "b r 4"],
        valid: Bool[Array, "b r"],
        sizes: Int[Array, "b 2"],
    ) -> Detections:
        """Detections within the images, best first.

        Args:
            class_logits: Logits of the classes and, last, of the background.
            box_deltas: Refinements of the boxes, for each class or one for all.
            boxes: Regions, ``xyxy`` in pixels.
            valid: False for filling.
            sizes: Height and width of each image without padding.
        """
        scores = jax.nn.softmax(class_logits.astype(jnp.float32))[..., :-1]
        return self.from_scores(scores, box_deltas, boxes, valid, sizes)

    def from_scores(
        self,
        scores: Float[Array, "b r classes"],
        box_deltas: Float[Array, "b r k 4"],
        boxes: Float[Array, "b r 4"],
        valid: Bool[Array, "b r"],
        sizes: Int[Array, "b 2"],
    ) -> Detections:
        """As `from_logits`, for probabilities of the classes, without the background."""
        b, num_classes = scores.shape[0], scores.shape[-1]
        scores = jnp.where(valid[..., None], scores, 0).reshape(b, -1)
        scores, index = jax.lax.top_k(scores, min(self.candidates, scores.shape[1]))
        rows, labels = index // num_classes, index % num_classes
        deltas = box_deltas.astype(jnp.float32).reshape(b, -1, 4)
        column = labels if box_deltas.shape[2] > 1 else 0
        deltas = take(deltas, rows * box_deltas.shape[2] + column)
        found = clip_to_sizes(self.coder.decode(deltas, take(boxes, rows)), sizes)

        sides = (found[..., 2:] - found[..., :2]).min(axis=-1)
        good = (scores > self.score_threshold) & (sides >= self.min_size)
        kept = nms(found, scores, self.iou_threshold, labels, good)
        index, good = select(kept, scores, min(self.most, scores.shape[1]))
        return Detections(take(found, index), take(scores, index), take(labels, index), good)


def softmax_rois(
    output: TwoStageOutput, sizes: Int[Array, "b 2"], rule: RoiDecoding = RoiDecoding()
) -> Detections:
    """The detections of a Faster R-CNN: see `RoiDecoding`."""
    return rule.from_logits(
        output.class_logits, output.box_deltas, output.proposals, output.proposals_valid, sizes
    )


def region_rois(output: RegionOutput, sizes: Int[Array, "b 2"]) -> Detections:
    """The detections among given regions, by the rule that the model's fields set."""
    rule = RoiDecoding(**output.decoding_fields)
    boxes, valid, deltas = output.proposals, output.proposals_valid, output.box_deltas
    if deltas is None:
        deltas = jnp.zeros((*boxes.shape[:2], 1, 4))
    if output.scores == "softmax":
        return rule.from_logits(output.class_logits, deltas, boxes, valid, sizes)
    scores = jax.nn.sigmoid(output.class_logits.astype(jnp.float32))
    return rule.from_scores(scores, deltas, boxes, valid, sizes)
