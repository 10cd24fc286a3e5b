"""What ExtremeNet computes, and how its points become boxes (arXiv 1901.08043, section 4).

Reference: the authors' code. All K^4 combinations of K points of each kind are compared, those of
one topmost point at a time, so that the memory is that of K^3.
"""

import dataclasses
from typing import NamedTuple, no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from zoo.models.detection.parts.inputs import clip_to_sizes
from zoo.models.detection.parts.keypoint_decode import Candidates, suppress_softly
from zoo.models.detection.parts.keypoint_maps import Scale
from zoo.models.detection.parts.samples import take
from zoo.ops.edge_aggregation import Axis, aggregate_edges
from zoo.ops.heat_maps import Cells, at_cells, peaks, top_cells
from zoo.ops.pool import max_pool
from zoo.outputs import Detections

EXTREMES = ("top", "left", "bottom", "right")
POINTS = (*EXTREMES, "centre")
_EDGES: tuple[Axis, ...] = ("columns", "rows", "columns", "rows")
_SURE = 0.2  # better boxes than this can be ghosts


class Group(NamedTuple):
    """Candidates and the points that they consist of.

    Attributes:
        candidates: The boxes.
        points: Topmost, leftmost, bottommost and rightmost point: x, y, in pixels of the padded
            batch, and the score.
    """

    candidates: Candidates
    points: Float[Array, "b n 4 3"]


@dataclasses.dataclass(frozen=True)
class ExtremeDecoding:
    """Which groups of four extreme points become detections.

    Attributes:
        points: Best points of each kind, of all classes together, that are considered: K.
        kernel: A point is a cell that is the best of its class among this many rows and columns.
        edge_weight: See `zoo.ops.edge_aggregation.aggregate_edges`; 0 does not aggregate.
        point_threshold: Groups with a point of a lower score are left out.
        centre_threshold: Groups whose centre has a lower score are left out.
        centre_kernel: The score of a group's centre is the best one of its class among this many
            rows and columns around the middle of the points' cells. That middle is rounded down,
            and is often the cell before that of the centre: with 1, as in the authors' code,
            objects of a few cells, whose Gaussians have no second cell, are lost.
        candidates: Best groups that are considered.
        sigma: Width of the decay of soft suppression, within classes: see `soft_nms`.
        score_threshold: Only scores above this, after the suppression.
        most: Largest number of detections of an image.
        ghost_ratio: A detection whose score is above 0.2 loses half of its score if the scores of
            the detections of its class inside it, with its own, add up to more than this times its
            own: it probably consists of points of several objects. None: none does.
    """

    points: int = 40
    kernel: int = 3
    edge_weight: float = 0.1
    point_threshold: float = 0.1
    centre_threshold: float = 0.1
    centre_kernel: int = 1
    candidates: int = 1000
    sigma: float = 0.5
    score_threshold: float = 0.001
    most: int = 100
    ghost_ratio: float | None = 3.0

    def __call__(self, output: "ExtremeOutput", sizes: Int[Array, "b 2"]) -> Detections:
        """Detections within the images, best first; their keypoints are the extreme points.

        Args:
            output: Of the model.
            sizes: Height and width of each image without padding.
        """
        found = self.groups(output)
        limits = sizes[:, ::-1].astype(jnp.float32)[:, None, None]  # b 1 1 2
        places = jnp.clip(found.points[..., :2], 0, limits)
        points = jnp.concatenate([places, found.points[..., 2:]], axis=-1)
        boxes = clip_to_sizes(found.candidates.boxes, sizes)
        candidates = found.candidates._replace(boxes=boxes)
        best, index = suppress_softly(candidates, self.sigma, self.score_threshold, self.most)
        best = best.replace(keypoints=take(points, index))
        if self.ghost_ratio is None:
            return best
        scores = suppress_ghosts(best, self.ghost_ratio)
        order = jnp.argsort(jnp.where(best.valid, -scores, jnp.inf), axis=1)
        return jax.tree.map(lambda x: take(x, order), best.replace(scores=scores))

    def groups(self, output: "ExtremeOutput") -> Group:
        """The best groups of four points."""
        heat = jax.nn.sigmoid(output.heat[:, -1])
        cells = [self._cells(heat[:, kind], kind) for kind in range(4)]
        centres = max_pool(heat[:, 4], self.centre_kernel, 1, self.centre_kernel // 2)
        scores, index, good = self._compare(cells, centres)
        parts = []
        for kind, (one, chosen) in enumerate(zip(cells, index, strict=True)):
            places = jnp.stack([one.x, one.y], axis=-1)
            places += at_cells(output.offsets[:, -1, kind], one.index)
            places = places / jnp.array(output.scale)
            parts.append(take(jnp.concatenate([places, one.scores[..., None]], axis=-1), chosen))
        top, left, bottom, right = parts
        boxes = [left[..., 0], top[..., 1], right[..., 0], bottom[..., 1]]
        labels = take(cells[0].labels, index[0])
        found = Candidates(jnp.stack(boxes, axis=-1), scores, labels, good)
        return Group(found, jnp.stack(parts, axis=2))

    def _cells(self, heat: Float[Array, "b h w k"], kind: int) -> Cells:
        """The best points of one kind."""
        if self.edge_weight:
            heat = aggregate_edges(heat, _EDGES[kind], self.edge_weight)
        return top_cells(jnp.minimum(peaks(heat, self.kernel), 1), self.points, by_class=False)

    def _compare(
        self, cells: list[Cells], centres: Float[Array, "b h w k"]
    ) -> tuple[Float[Array, "b n"], list[Int[Array, "b n"]], Bool[Array, "b n"]]:
        """Scores of the best groups, the numbers of their four points, and whether they are one.

        Args:
            cells: The points of each kind.
            centres: Scores of the centres.
        """
        num = cells[0].scores.shape[1]
        wanted = min(self.candidates, num**3)

        def of_one_top(i: Int[Array, ""]) -> tuple[Float[Array, "b n"], Int[Array, "b n"]]:
            """The best groups with the topmost point i."""
            first = Cells(*(x[:, i, None, None, None] for x in cells[0]))
            shapes = ((1, 2), (0, 2), (0, 1))  # new axes of left, bottom and right
            others = [
                Cells(*(jnp.expand_dims(x, [axis + 1 for axis in axes]) for x in one))
                for one, axes in zip(cells[1:], shapes, strict=True)
            ]
            scores = self._scores([first, *others], centres)
            scores, index = jax.lax.top_k(scores.reshape(len(scores), -1), wanted)
            return scores, index

        scores, index = jax.lax.map(of_one_top, jnp.arange(num))  # tops b n
        tops = jnp.broadcast_to(jnp.arange(num)[:, None, None], index.shape)
        scores, index, tops = (
            x.swapaxes(0, 1).reshape(x.shape[1], -1) for x in (scores, index, tops)
        )
        scores, chosen = jax.lax.top_k(scores, min(self.candidates, scores.shape[1]))
        index = take(index, chosen)
        numbers = [take(tops, chosen), index // num**2, index // num % num, index % num]
        return scores, numbers, scores > 0

    def _scores(
        self, cells: list[Cells], centres: Float[Array, "b h w k"]
    ) -> Float[Array, "b l m n"]:
        """Scores of groups, -1 where points do not belong together; `cells` are broadcast."""
        top, left, bottom, right = cells
        good = (top.labels == left.labels) & (top.labels == bottom.labels)
        good &= top.labels == right.labels
        good &= (top.y <= left.y) & (top.y <= bottom.y) & (top.y <= right.y)
        good &= (left.x <= top.x) & (left.x <= bottom.x) & (left.x <= right.x)
        good &= (bottom.y >= left.y) & (bottom.y >= right.y)
        good &= (right.x >= top.x) & (right.x >= bottom.x)
        for one in cells:
            good &= one.scores >= self.point_threshold
        b, _, w, k = centres.shape
        # The middle of the two cells, rounded down.
        place = (top.y + bottom.y) // 2 * w + (left.x + right.x) // 2
        place = jnp.broadcast_to(place * k + top.labels, good.shape)
        flat = jnp.take_along_axis(centres.reshape(b, -1), place.reshape(b, -1), axis=1)
        middle = flat.reshape(good.shape)
        good &= middle >= self.centre_threshold
        total = top.scores + left.scores + bottom.scores + right.scores + 2 * middle
        return jnp.where(good, total / 6, -1)


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class ExtremeOutput(struct.PyTreeNode):
    """What ExtremeNet predicts; axis s is the hourglasses, of which the last one's is decoded.

    Attributes:
        heat: Logit of each class, for the sigmoid, for "such a point of an object is in this cell":
            the topmost, leftmost, bottommost, rightmost point, and the centre.
        offsets: How far right of the cell's left and below its upper side the point is, in cells,
            for the first four.
        scale: Cells for a pixel of the padded image.
        decoding: How the output becomes detections.
    """

    heat: Float[Array, "b s 5 h w k"]
    offsets: Float[Array, "b s 4 h w 2"]
    scale: Scale = struct.field(pytree_node=False, default=(0.25, 0.25))
    decoding: ExtremeDecoding = struct.field(pytree_node=False, default_factory=ExtremeDecoding)


def suppress_ghosts(found: Detections, ratio: float) -> Float[Array, "b n"]:
    """The scores, after those of boxes that seem to consist of several objects are halved.

    The detections are looked at one after the other, best first, with the scores that the ones
    before them have by then (section 4.3).

    Args:
        found: Detections, best first.
        ratio: See `ExtremeDecoding`.
    """
    small, large = found.boxes[:, None], found.boxes[:, :, None]
    inside = (small[..., :2] >= large[..., :2]) & (small[..., 2:] <= large[..., 2:])
    inside = inside.all(axis=-1) & (found.labels[:, None] == found.labels[:, :, None])
    inside &= found.valid[:, None]

    def look(i: Int[Array, ""], scores: Float[Array, "b n"]) -> Float[Array, "b n"]:
        own = jax.lax.dynamic_index_in_dim(scores, i, 1, keepdims=False)
        contained = jax.lax.dynamic_index_in_dim(inside, i, 1, keepdims=False)
        total = jnp.where(contained, scores, 0).sum(axis=1)
        ghost = (own > _SURE) & (total > ratio * own)
        return scores.at[:, i].set(jnp.where(ghost, own / 2, own))

    return jax.lax.fori_loop(0, found.scores.shape[1], look, found.scores)


def decode(output: ExtremeOutput, sizes: Int[Array, "b 2"]) -> Detections:
    """The detections of ExtremeNet, by the rule of its output."""
    return output.decoding(output, sizes)
