"""Chooses the best regions among all anchors (Faster R-CNN, arXiv 1506.01497, section 3.3)."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from zoo.models.detection.parts.inputs import clip_to_sizes
from zoo.ops.box_coder import BoxCoder
from zoo.ops.nms import nms, select

_Found = tuple[Float[Array, "b k"], Float[Array, "b k 4"]]


@dataclasses.dataclass(frozen=True)
class ProposalRule:
    """How many proposals are kept, and which; the defaults are torchvision's.

    detectron2 has ``train_kept=1000, min_size=0``.

    Attributes:
        candidates: Best anchors of each level before suppression.
        kept: Proposals of an image after suppression.
        train_candidates: `candidates` in training.
        train_kept: `kept` in training.
        iou_threshold: A box that overlaps a better one of its level more than this is dropped.
        score_threshold: Boxes with a lower probability of an object are dropped.
        min_size: Boxes with a smaller width or height in pixels, after clipping, are dropped; and
            always those without width or height.
    """

    candidates: int = 1000
    kept: int = 1000
    train_candidates: int = 2000
    train_kept: int = 2000
    iou_threshold: float = 0.7
    score_threshold: float = 0.0
    min_size: float = 1e-3

    def __call__(
        self,
        logits: Sequence[Float[Array, "b _"]],
        deltas: Sequence[Float[Array, "b _ 4"]],
        anchors: Sequence[Float[np.ndarray, "_ 4"]],
        sizes: Int[Array, "b 2"],
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "b r 4"], Bool[Array, "b r"]]:
        """The proposals of each image, best first; no gradient flows to them.

        Args:
            logits: Of the anchors of each level, for "there is an object".
            deltas: Refinements of the anchors, without weights.
            anchors: ``xyxy`` in pixels.
            sizes: Height and width of each image without padding.
            train: Whether the numbers of training are used.

        Returns:
            Boxes within the images, and False for filling. There are as many as are kept, or as
            there are candidates if these are fewer.
        """
        count = self.train_candidates if train else self.candidates
        levels = zip(*jax.lax.stop_gradient((tuple(logits), tuple(deltas))), anchors, strict=True)
        found = [_best(*level, count) for level in levels]
        scores, boxes = (jnp.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
        number = np.repeat(np.arange(len(found)), [part[0].shape[1] for part in found])

        boxes = clip_to_sizes(boxes, sizes)
        valid = self.allowed(boxes, train=train)
        valid &= jax.nn.sigmoid(scores) >= self.score_threshold
        number = jnp.broadcast_to(number, scores.shape)
        kept = nms(boxes, scores, self.iou_threshold, number, valid)
        most = min(self.train_kept if train else self.kept, scores.shape[1])
        index, valid = select(kept, scores, most)
        return jnp.take_along_axis(boxes, index[..., None], axis=1), valid

    def allowed(self, boxes: Float[Array, "b n 4"], *, train: bool) -> Bool[Array, "b n"]:
        """False for the boxes that are no candidates, whatever their scores."""
        del train
        sides = (boxes[..., 2:] - boxes[..., :2]).min(axis=-1)
        return (sides > 0) & (sides >= self.min_size)


def _best(
    logits: Float[Array, "b n"],
    deltas: Float[Array, "b n 4"],
    anchors: Float[np.ndarray, "n 4"],
    count: int,
) -> _Found:
    """The highest logits of a level, and the boxes of these anchors."""
    scores, index = jax.lax.top_k(logits, min(count, logits.shape[1]))
    deltas = jnp.take_along_axis(deltas, index[..., None], axis=1)
    return scores, BoxCoder().decode(deltas, jnp.asarray(anchors)[index])
