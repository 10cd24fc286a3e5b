"""CornerNet's loss (arXiv 1808.01244, sections 3.2 and 3.3).

References: the authors' code, and mmdet's `CornerHead`.

Deviations: the authors add the losses of embeddings over the 5 images of a device, and mmdet over
6; we take the mean over all images, with a weight that is 5 times theirs, so that it does not
depend on the number of devices. Corners on the right and lower side of the padded batch have an
offset of 1 in the last cell, as in mmdet; the authors first move them inwards by a pixel. If two
objects have a corner in one cell, the loss of offsets has both; mmdet's has the last one.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from zoo.losses.mean import Mean, Means
from zoo.models.detection.cornernet.decode import CornerOutput
from zoo.models.detection.parts.keypoint_loss import (
    Placed,
    at_points,
    class_hits,
    heat_loss,
    offset_loss,
    place_points,
    wanted_heat,
)
from zoo.outputs import Targets
from zoo.types import check_not_negative

CORNERS = ("top_left", "bottom_right")
_APART = 0.5  # the distance of embeddings that decoding allows


@dataclasses.dataclass(frozen=True)
class CornerNetLoss:
    """The loss of a CornerNet, each term as a mean over the hourglasses.

    Attributes:
        pull_weight: Weight of the distances of the embeddings of an object's two corners.
        push_weight: Weight of the nearness of the embeddings of different objects.
        offset_weight: Weight of smooth L1 of the offsets, whose sum over both corners and
            coordinates is divided by the number of objects.
        alpha: See `zoo.losses.heat_maps.gaussian_focal`.
        beta: See there.
        iou: Overlap of an object and the boxes whose corners are as far away as a Gaussian reaches:
            see `zoo.ops.heat_maps.gaussian_radius`.
    """

    pull_weight: float = 0.5
    push_weight: float = 0.5
    offset_weight: float = 1.0
    alpha: float = 2.0
    beta: float = 4.0
    iou: float = 0.3

    def __post_init__(self) -> None:
        check_not_negative(self, (field.name for field in dataclasses.fields(self)), "loss.")

    def __call__(self, output: CornerOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a model."""
        objects = targets.valid & targets.image_valid[:, None]
        shape = output.heat.shape[3], output.heat.shape[4]
        corners = [
            place_points(targets.boxes[..., place : place + 2], output.scale, shape)
            for place in (0, 2)
        ]
        losses = {
            name: self._heat(output, corner, kind, objects, targets)
            for kind, (name, corner) in enumerate(zip(CORNERS, corners, strict=True))
        }
        tags = jnp.stack(
            [at_points(output.tags[:, :, i, ..., None], x.index) for i, x in enumerate(corners)],
            axis=-1,
        )[:, :, :, 0]
        pull, push = tag_losses(tags, objects)
        images = targets.image_valid
        offset = offset_loss(output.offsets, corners, objects)
        losses |= {
            "pull": Mean.of(self.pull_weight * pull, images),
            "push": Mean.of(self.push_weight * push, images),
            "offset": Mean(self.offset_weight * offset.total, offset.weight),
        }
        hits = [
            class_hits(output.heat[:, -1, i], x.index, targets.labels)
            for i, x in enumerate(corners)
        ]
        metrics = {"class_accuracy": Mean.of(jnp.stack(hits), jnp.stack([objects] * 2))}
        return losses, metrics | tag_metrics(tags[:, -1], objects)

    def _heat(
        self,
        output: CornerOutput,
        corner: Placed,
        kind: int,
        objects: Bool[Array, "b m"],
        targets: Targets,
    ) -> Mean:
        """The focal loss of one kind of corner."""
        heat = output.heat[:, :, kind]
        h, w, k = heat.shape[2:]
        wanted = wanted_heat(
            corner, targets.boxes, targets.labels, objects, output.scale, (h, w), k, self.iou
        )
        rates = {"alpha": self.alpha, "beta": self.beta}
        return heat_loss(heat, wanted, targets.image_valid, **rates)


def tag_losses(
    tags: Float[Array, "b s m 2"], objects: Bool[Array, "b m"]
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """The losses that pull embeddings together and push them apart (equations 4 and 5).

    Both are means over the hourglasses, of images: the first over the objects of an image, 0
    without objects, the second over the pairs of different objects, 0 with less than two.

    Args:
        tags: Embeddings of both corners of each object.
        objects: True where there is an object.
    """
    middle = tags.mean(axis=-1)
    pull = jnp.where(objects[:, None], ((tags - middle[..., None]) ** 2).sum(axis=-1), 0)
    count = objects.sum(axis=1, dtype=jnp.float32)
    pull = pull.sum(axis=-1).mean(axis=1) / jnp.maximum(count, 1)
    near = jnp.maximum(1 - jnp.abs(middle[..., :, None] - middle[..., None, :]), 0)
    near = jnp.where(_pairs(objects)[:, None], near, 0)
    push = near.sum(axis=(-2, -1)).mean(axis=1) / jnp.maximum(count * (count - 1), 1)
    return pull, push


def _pairs(objects: Bool[Array, "b m"]) -> Bool[Array, "b m m"]:
    """Pairs of different objects."""
    both = objects[:, :, None] & objects[:, None]
    return both & ~jnp.eye(objects.shape[1], dtype=bool)


def tag_metrics(tags: Float[Array, "b m 2"], objects: Bool[Array, "b m"]) -> Means:
    """Whether embeddings tell which corners belong together.

    Returns:
        ``pairs_joined``: share of objects whose corners' embeddings are as near as decoding wants
        it. ``pairs_apart``: share of pairs of two objects where that of the first one's top-left
        corner and that of the second one's bottom-right corner are not.
    """
    distance = jnp.abs(tags[:, :, None, 0] - tags[:, None, :, 1])
    own = jnp.diagonal(distance, axis1=1, axis2=2)
    return {
        "pairs_joined": Mean.of(own <= _APART, objects),
        "pairs_apart": Mean.of(distance > _APART, _pairs(objects)),
    }
