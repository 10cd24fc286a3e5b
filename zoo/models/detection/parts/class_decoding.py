"""Decoding by classes, as SSD does it: the best anchors of each class, without the background."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from zoo.models.detection.parts.dense import DenseOutput
from zoo.models.detection.parts.inputs import clip_to_sizes
from zoo.models.detection.parts.samples import take
from zoo.ops.box_coder import BoxCoder
from zoo.ops.nms import nms, select
from zoo.outputs import Detections

SSD_CODER = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))


@dataclasses.dataclass(frozen=True)
class ClassDecoding:
    """Which anchors become detections of a class; the logits have the background last.

    Attributes:
        score_threshold: Only probabilities above this.
        iou_threshold: A box that overlaps a better one of its class more than this is dropped.
        candidates: Best anchors of each class that are considered.
        most: Largest number of detections of an image.
        coder: How the boxes are encoded.
    """

    score_threshold: float = 0.01
    iou_threshold: float = 0.45
    candidates: int = 400
    most: int = 200
    coder: BoxCoder = SSD_CODER

    def __call__(self, output: DenseOutput, sizes: Int[Array, "b 2"]) -> Detections:
        """Detections within the images, best first.

        Args:
            output: Of the model.
            sizes: Height and width of each image without padding.
        """
        boxes = self.coder.decode(output.deltas.astype(jnp.float32), output.anchors)
        boxes = clip_to_sizes(boxes, sizes)
        scores = jax.nn.softmax(output.logits.astype(jnp.float32))[..., :-1]
        scores = scores.swapaxes(1, 2)  # b k a
        b, k, a = scores.shape
        scores, index = jax.lax.top_k(scores, min(self.candidates, a))
        n = index.shape[-1]
        found = take(boxes, index.reshape(b, k * n)).reshape(b, k, n, 4)
        kept = nms(found, scores, self.iou_threshold, valid=scores > self.score_threshold)
        scores, kept = scores.reshape(b, k * n), kept.reshape(b, k * n)
        index, good = select(kept, scores, min(self.most, k * n))
        return Detections(
            take(found.reshape(b, k * n, 4), index), take(scores, index), index // n, good
        )
