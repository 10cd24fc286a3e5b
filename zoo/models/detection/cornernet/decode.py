"""What CornerNet computes, and how corners become boxes (arXiv 1808.01244, section 4.4)."""

import dataclasses
from typing import no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from zoo.models.detection.parts.inputs import clip_to_sizes
from zoo.models.detection.parts.keypoint_decode import Candidates, suppress_softly
from zoo.models.detection.parts.keypoint_maps import Scale
from zoo.models.detection.parts.samples import take
from zoo.ops.heat_maps import Cells, at_cells, peaks, top_cells
from zoo.outputs import Detections


@dataclasses.dataclass(frozen=True)
class CornerDecoding:
    """Which pairs of corners become detections.

    Attributes:
        corners: Best corners of each kind, of all classes together, that are considered.
        kernel: A corner is a cell that is the best of its class among this many rows and columns.
        tag_distance: Pairs whose embeddings differ by more are left out.
        candidates: Best pairs that are considered.
        sigma: Width of the decay of soft suppression, within classes: see `soft_nms`.
        score_threshold: Only scores above this, after the suppression.
        most: Largest number of detections of an image.
    """

    corners: int = 100
    kernel: int = 3
    tag_distance: float = 0.5
    candidates: int = 1000
    sigma: float = 0.5
    score_threshold: float = 0.001
    most: int = 100

    def __call__(self, output: "CornerOutput", sizes: Int[Array, "b 2"]) -> Detections:
        """Detections within the images, best first.

        Args:
            output: Of the model.
            sizes: Height and width of each image without padding.
        """
        found = self.pairs(output)
        found = found._replace(boxes=clip_to_sizes(found.boxes, sizes))
        return suppress_softly(found, self.sigma, self.score_threshold, self.most)[0]

    def pairs(self, output: "CornerOutput") -> Candidates:
        """The best pairs of a top-left and a bottom-right corner."""
        kinds = [self._corners(output, kind) for kind in range(2)]
        (first, first_tags, first_points), (second, second_tags, second_points) = kinds
        good = first.labels[:, :, None] == second.labels[:, None]
        good &= jnp.abs(first_tags[:, :, None] - second_tags[:, None]) <= self.tag_distance
        before, after = first_points[:, :, None], second_points[:, None]
        good &= (after >= before).all(axis=-1)
        scores = (first.scores[:, :, None] + second.scores[:, None]) / 2
        b, n, m = good.shape
        ranked = jnp.where(good, scores, -1).reshape(b, n * m)
        scores, index = jax.lax.top_k(ranked, min(self.candidates, n * m))
        one, other = index // m, index % m
        points = [take(first_points, one), take(second_points, other)]
        boxes = jnp.concatenate(points, axis=-1) / jnp.tile(jnp.array(output.scale), 2)
        return Candidates(boxes, scores, take(first.labels, one), scores >= 0)

    def _corners(
        self, output: "CornerOutput", kind: int
    ) -> tuple[Cells, Float[Array, "b n"], Float[Array, "b n 2"]]:
        """The best corners of one kind, their embeddings, and their places on the maps."""
        heat = jax.nn.sigmoid(output.heat[:, -1, kind])
        cells = top_cells(peaks(heat, self.kernel), self.corners, by_class=False)
        tags = at_cells(output.tags[:, -1, kind, ..., None], cells.index)[..., 0]
        offsets = at_cells(output.offsets[:, -1, kind], cells.index)
        return cells, tags, jnp.stack([cells.x, cells.y], axis=-1) + offsets


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class CornerOutput(struct.PyTreeNode):
    """What CornerNet predicts; axis s is the hourglasses, of which the last one's is decoded.

    In the axis of length 2, the first entry is of top-left corners, the second of bottom-right
    ones.

    Attributes:
        heat: Logit of each class, for the sigmoid, for "a corner of an object is in this cell".
        tags: Embedding of the corner: those of one object are near to each other.
        offsets: How far right of the cell's left and below its upper side the corner is, in cells.
        scale: Cells for a pixel of the padded image.
        decoding: How the output becomes detections.
    """

    heat: Float[Array, "b s 2 h w k"]
    tags: Float[Array, "b s 2 h w"]
    offsets: Float[Array, "b s 2 h w 2"]
    scale: Scale = struct.field(pytree_node=False, default=(0.25, 0.25))
    decoding: CornerDecoding = struct.field(pytree_node=False, default_factory=CornerDecoding)


def decode(output: CornerOutput, sizes: Int[Array, "b 2"]) -> Detections:
    """The detections of CornerNet, by the rule of its output."""
    return output.decoding(output, sizes)
