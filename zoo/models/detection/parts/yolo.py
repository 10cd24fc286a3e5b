"""What the YOLO detectors compute, and how it becomes detections."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from zoo.layers.conv import conv_layer
from zoo.models.detection.parts.inputs import clip_to_sizes
from zoo.models.detection.parts.samples import take
from zoo.ops.grid_anchors import GridAnchors
from zoo.ops.grid_coder import GridCoder, RootCoder
from zoo.ops.nms import nms, select
from zoo.outputs import Detections

Activation = Literal["sigmoid", "softmax", "none"]
_COCO_GRID = GridAnchors((((1.0, 1.0),),), (1,))
_GRID_CODER = GridCoder()
_OBJECT_PRIOR = 0.01  # first probability of an object


@dataclasses.dataclass(frozen=True)
class YoloDecoding:
    """Which pairs of an anchor and a class become detections.

    The score is the product of the probabilities that there is an object, and of its class. The
    defaults are those with which darknet evaluates, but that it has no limits of numbers.

    Attributes:
        classes: Of the classes' outputs. The objectness has a sigmoid, with ``none`` nothing.
        score_threshold: Only scores above this; with `classes_first` only classes above this.
        iou_threshold: A box that overlaps a better one of its class more than this is dropped.
        candidates: Best pairs that are considered, of all levels.
        most: Largest number of detections of an image.
        classes_first: Whether the probability of the class alone decides about the candidates, and
            is compared with the threshold, as in mmdet.
        object_threshold: With `classes_first`: only anchors with at least this objectness.
        coder: How the boxes are encoded.
    """

    classes: Activation = "sigmoid"
    score_threshold: float = 0.005
    iou_threshold: float = 0.45
    candidates: int = 1000
    most: int = 100
    classes_first: bool = False
    object_threshold: float = 0.005
    coder: GridCoder | RootCoder = _GRID_CODER

    def probabilities(
        self, output: "YoloOutput"
    ) -> tuple[Float[Array, "b a k"], Float[Array, "b a"]]:
        """Of the classes, and of an object; for ``none`` the outputs themselves."""
        logits, objectness = (x.astype(jnp.float32) for x in (output.logits, output.objectness))
        if self.classes == "none":
            return logits, objectness
        activation = jax.nn.sigmoid if self.classes == "sigmoid" else jax.nn.softmax
        return activation(logits), jax.nn.sigmoid(objectness)

    def __call__(self, output: "YoloOutput", sizes: Int[Array, "b 2"]) -> Detections:
        """Detections within the images, best first.

        Args:
            output: Of the model.
            sizes: Height and width of each image without padding.
        """
        classes, objectness = self.probabilities(output)
        b, a, k = classes.shape
        found = objectness[..., None]
        if self.classes_first:
            ranked = jnp.where(found >= self.object_threshold, classes, 0)
        else:
            ranked = classes * found
        scores, index = jax.lax.top_k(ranked.reshape(b, a * k), min(self.candidates, a * k))
        anchor, labels = index // k, index % k
        good = scores > self.score_threshold
        if self.classes_first:
            scores = scores * take(objectness, anchor)
        boxes = take(output.boxes(), anchor)
        kept = nms(boxes, scores, self.iou_threshold, labels, good)
        boxes = clip_to_sizes(boxes, sizes)
        kept &= (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)
        index, good = select(kept, scores, min(self.most, scores.shape[1]))
        return Detections(take(boxes, index), take(scores, index), take(labels, index), good)


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class YoloOutput(struct.PyTreeNode):
    """What a YOLO predicts; axis a is the anchors of all levels, finest first.

    Within a level they are in the order of row, column, and anchor of the cell.

    Attributes:
        logits: Of the classes.
        deltas: The box, as the coder of `decoding` says.
        objectness: Of "there is an object".
        anchors: ``xyxy`` in pixels of the padded batch; the same for all images. For YOLO v1: the
            cells.
        grid: What the anchors are.
        shapes: Rows and columns of each level.
        decoding: How the output becomes detections.
    """

    logits: Float[Array, "b a k"]
    deltas: Float[Array, "b a 4"]
    objectness: Float[Array, "b a"]
    anchors: Float[Array, "b a 4"]
    grid: GridAnchors = struct.field(pytree_node=False, default=_COCO_GRID)
    shapes: tuple[tuple[int, int], ...] = struct.field(pytree_node=False, default=())
    decoding: YoloDecoding = struct.field(pytree_node=False, default_factory=YoloDecoding)

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of anchors of each level."""
        counts = self.grid.num_per_cell
        return tuple(r * c * n for (r, c), n in zip(self.shapes, counts, strict=True))

    def strides(self) -> Float[np.ndarray, "a 1"]:
        """Height and width of the cell of each anchor, in pixels."""
        return np.repeat(np.array(self.grid.strides, np.float32), self.level_sizes)[:, None]

    def boxes(self) -> Float[Array, "b a 4"]:
        """The boxes, ``xyxy`` in pixels, not clipped."""
        deltas, strides = self.deltas.astype(jnp.float32), jnp.asarray(self.strides())
        return self.decoding.coder.decode(deltas, self.anchors, strides)


def yolo_detections(output: YoloOutput, sizes: Int[Array, "b 2"]) -> Detections:
    """The detections of a YOLO, by the rule of its output."""
    return output.decoding(output, sizes)


class YoloPredictor(nn.Module):
    """The last layer of a level: a 1 x 1 convolution to all numbers of each anchor.

    Its parts have modules of their own, so that new classes keep the boxes and the objectness.

    Attributes:
        num_classes: Number of classes.
        num_anchors: Anchors of a cell.
    """

    num_classes: int
    num_anchors: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b a k"], Float[Array, "b a 4"], Float[Array, "b a 1"]]:
        """Logits, deltas and objectness, by row, column, and anchor of the cell."""
        x, outputs = x.astype(jnp.float32), []
        prior = nn.initializers.constant(np.log(_OBJECT_PRIOR / (1 - _OBJECT_PRIOR)))
        for name, size in (("logits", self.num_classes), ("deltas", 4), ("objectness", 1)):
            y = conv_layer(
                size * self.num_anchors,
                1,
                bias=True,
                kernel_init=nn.initializers.normal(0.01),
                bias_init=prior if name == "objectness" else nn.initializers.zeros,
                dtype=jnp.float32,
                name=name,
            )(x)
            outputs.append(y.reshape(y.shape[0], -1, size))
        return outputs[0], outputs[1], outputs[2]


def yolo_output(
    grid: GridAnchors,
    maps: Sequence[Float[Array, "b _ _ _"]],
    levels: Sequence[tuple[Float[Array, "b _ k"], Float[Array, "b _ 4"], Float[Array, "b _ 1"]]],
    decoding: YoloDecoding,
) -> YoloOutput:
    """The output of a detector.

    Args:
        grid: The anchors.
        maps: The levels, finest first.
        levels: What `YoloPredictor` gives for each of them.
        decoding: How the output becomes detections.
    """
    shapes = tuple((x.shape[1], x.shape[2]) for x in maps)
    logits, deltas, objectness = (jnp.concatenate(x, axis=1) for x in zip(*levels, strict=True))
    anchors = jnp.broadcast_to(np.concatenate(grid.per_level(shapes)), deltas.shape)
    return YoloOutput(logits, deltas, objectness[..., 0], anchors, grid, shapes, decoding)
