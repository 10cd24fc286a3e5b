"""What dense detectors compute, and how it becomes detections.

Dense detectors classify every anchor, or point, of every level, and refine its box.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal, Protocol, no_type_check, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from zoo.models.detection.parts.inputs import clip_to_sizes
from zoo.models.detection.parts.samples import take
from zoo.ops.anchors import Anchors
from zoo.ops.box_coder import BoxCoder
from zoo.ops.distance_coder import DistanceCoder
from zoo.ops.nms import nms, select
from zoo.ops.priors import PriorBoxes
from zoo.outputs import Detections

Coder = BoxCoder | DistanceCoder
CentreUse = Literal["root", "after"]
_PLAIN = BoxCoder()


@runtime_checkable
class Decoding(Protocol):
    """A rule by which the output of a dense detector becomes detections."""

    @property
    def coder(self) -> Coder:
        """How the boxes are encoded."""
        ...

    def __call__(self, output: "DenseOutput", sizes: Int[Array, "b 2"]) -> Detections:
        """Detections within the images, best first; `sizes` are those without padding."""
        ...


@dataclasses.dataclass(frozen=True)
class DenseDecoding:
    """Which pairs of an anchor and a class become detections.

    Attributes:
        score_threshold: Only scores above this.
        iou_threshold: A box that overlaps a better one of its class more than this is dropped.
        candidates: Best pairs of each level that are considered.
        per_level: Whether `candidates` is the number of each level; else it is that of all levels
            together, as in EfficientDet.
        most: Largest number of detections of an image.
        centerness: How the probability that a point is near the centre of its object is used.
            ``root``: the score is the square root of the product with the class's probability
            (torchvision, detectron2). ``after``: the class's probability is compared with the
            threshold, and decides about the candidates; the score is the product (mmdet).
        clip_first: Whether boxes are clipped to the image before the suppression; else afterwards,
            as in detectron2.
        drop_empty: Whether boxes are dropped that have no area after they are clipped, as in
            detectron2 and mmdet.
        coder: How the boxes are encoded.
    """

    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    candidates: int = 1000
    per_level: bool = True
    most: int = 300
    centerness: CentreUse = "root"
    clip_first: bool = True
    drop_empty: bool = False
    coder: Coder = _PLAIN

    def __call__(self, output: "DenseOutput", sizes: Int[Array, "b 2"]) -> Detections:
        """Detections within the images, best first.

        Args:
            output: Of the model.
            sizes: Height and width of each image without padding.
        """
        sizes_of_levels = output.level_sizes if self.per_level else (sum(output.level_sizes),)
        levels = itertools.pairwise(np.cumsum((0, *sizes_of_levels)).tolist())
        found = [self._of_level(output, slice(*level)) for level in levels]
        scores, good, boxes, labels = (jnp.concatenate(x, axis=1) for x in zip(*found, strict=True))
        if self.clip_first:
            boxes, good = self._clip(boxes, good, sizes)
        kept = nms(boxes, scores, self.iou_threshold, labels, good)
        index, good = select(kept, scores, min(self.most, scores.shape[1]))
        boxes, scores, labels = (take(x, index) for x in (boxes, scores, labels))
        if self.clip_first:
            return Detections(boxes, scores, labels, good)
        boxes, good = self._clip(boxes, good, sizes)
        order = jnp.argsort(~good, axis=1, stable=True)
        boxes, scores, labels, good = (take(x, order) for x in (boxes, scores, labels, good))
        return Detections(boxes, scores, labels, good)

    def _clip(
        self, boxes: Float[Array, "b n 4"], good: Bool[Array, "b n"], sizes: Int[Array, "b 2"]
    ) -> tuple[Float[Array, "b n 4"], Bool[Array, "b n"]]:
        """Boxes within the images, and which of the good ones remain."""
        boxes = clip_to_sizes(boxes, sizes)
        if self.drop_empty:
            good &= (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)
        return boxes, good

    def _of_level(
        self, output: "DenseOutput", level: slice
    ) -> tuple[Float[Array, "b n"], Bool[Array, "b n"], Float[Array, "b n 4"], Int[Array, "b n"]]:
        """Scores, whether they are above the threshold, boxes and labels of the candidates."""
        scores = jax.nn.sigmoid(output.logits[:, level].astype(jnp.float32))
        centred = None
        if output.centerness is not None:
            centred = jax.nn.sigmoid(output.centerness[:, level].astype(jnp.float32))
            if self.centerness == "root":
                scores = jnp.sqrt(scores * centred[..., None])
        num_classes = scores.shape[-1]
        scores = scores.reshape(scores.shape[0], -1)
        scores, index = jax.lax.top_k(scores, min(self.candidates, scores.shape[1]))
        anchor, labels = index // num_classes, index % num_classes
        good = scores > self.score_threshold
        if centred is not None and self.centerness == "after":
            scores = scores * take(centred, anchor)
        deltas = take(output.deltas[:, level].astype(jnp.float32), anchor)
        boxes = self.coder.decode(deltas, take(output.anchors[:, level], anchor))
        return scores, good, boxes, labels


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class DenseOutput(struct.PyTreeNode):
    """What a dense detector predicts; axis a is the anchors of all levels, finest first.

    Attributes:
        logits: A logit for each class, for the sigmoid; for SSD, whose are for the softmax, the
            background's is the last.
        deltas: The box relative to the anchor, as the coder of `decoding` says.
        anchors: ``xyxy`` in pixels of the padded batch; the same for all images. For detectors of
            points: squares around the points, whose side is the stride of the level.
        centerness: Logit for "the point is near the centre of its object"; None for detectors
            without it.
        level_sizes: Number of anchors of each level.
        limits: For detectors of points: sizes in pixels at which the objects of one level end and
            those of the next begin.
        decoding: How the output becomes detections.
    """

    logits: Float[Array, "b a k"]
    deltas: Float[Array, "b a 4"]
    anchors: Float[Array, "b a 4"]
    centerness: Float[Array, "b a"] | None = None
    level_sizes: tuple[int, ...] = struct.field(pytree_node=False, default=())
    limits: tuple[float, ...] = struct.field(pytree_node=False, default=())
    decoding: Decoding = struct.field(pytree_node=False, default_factory=DenseDecoding)


def dense_detections(output: DenseOutput, sizes: Int[Array, "b 2"]) -> Detections:
    """The detections of a dense detector, by the rule of its output."""
    return output.decoding(output, sizes)


def dense_output(
    images: Float[Array, "b h w c"],
    maps: Sequence[Float[Array, "b _ _ _"]],
    anchors: Anchors | PriorBoxes,
    logits: Sequence[Float[Array, "b _ k"]],
    deltas: Sequence[Float[Array, "b _ 4"]],
    decoding: Decoding,
    *,
    centerness: Sequence[Float[Array, "b _ 1"]] | None = None,
    limits: tuple[float, ...] = (),
) -> DenseOutput:
    """The output of a detector, from what its head gives for each level, finest first.

    Args:
        images: The padded batch.
        maps: The levels.
        anchors: What stands at every cell of them.
        logits: Of the classes: see `DenseOutput`.
        deltas: Of the boxes.
        decoding: How the output becomes detections.
        centerness: As in `DenseOutput`.
        limits: As in `DenseOutput`.
    """
    shapes = [(x.shape[1], x.shape[2]) for x in maps]
    boxes = anchors.per_level(shapes, (images.shape[1], images.shape[2]))
    joined = jnp.concatenate(deltas, axis=1)
    return DenseOutput(
        jnp.concatenate(logits, axis=1),
        joined,
        jnp.broadcast_to(np.concatenate(boxes), joined.shape),
        None if centerness is None else jnp.concatenate(centerness, axis=1)[..., 0],
        tuple(len(level) for level in boxes),
        limits,
        decoding,
    )
