"""ExtremeNet's loss (arXiv 1901.08043, sections 3 and 4.1), that of CornerNet without embeddings.

Reference: the authors' code. Deviation: points on the right and lower side of the padded batch have
an offset of 1 in the last cell; the authors first move them inwards by a pixel.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from zoo.losses.mean import Mean, Means
from zoo.models.detection.extremenet.decode import POINTS, ExtremeOutput
from zoo.models.detection.parts.keypoint_loss import (
    class_hits,
    heat_loss,
    offset_loss,
    place_points,
    wanted_heat,
)
from zoo.ops.extreme_points import extreme_points
from zoo.outputs import Targets
from zoo.types import InputError, check_not_negative


@dataclasses.dataclass(frozen=True)
class ExtremeNetLoss:
    """The loss of an ExtremeNet, each term as a mean over the hourglasses.

    Attributes:
        offset_weight: Weight of smooth L1 of the offsets, whose sum over the four points and both
            coordinates is divided by the number of objects.
        alpha: See `zoo.losses.heat_maps.gaussian_focal`.
        beta: See there.
        iou: Overlap of an object and the boxes whose corners are as far away as a Gaussian reaches:
            see `zoo.ops.heat_maps.gaussian_radius`.
        share: See `zoo.ops.extreme_points.extreme_points`.
    """

    offset_weight: float = 1.0
    alpha: float = 2.0
    beta: float = 4.0
    iou: float = 0.7
    share: float = 0.02

    learns_from: ClassVar[tuple[str, ...]] = ("masks",)

    def __post_init__(self) -> None:
        check_not_negative(self, (field.name for field in dataclasses.fields(self)), "loss.")

    def __call__(self, output: ExtremeOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a model; raises InputError without masks."""
        objects = targets.valid & targets.image_valid[:, None]
        h, w, k = output.heat.shape[3:]
        points = self.points(targets)
        placed = [place_points(points[:, :, i], output.scale, (h, w)) for i in range(5)]
        rates = {"alpha": self.alpha, "beta": self.beta}
        losses, hits = {}, []
        for i, name in enumerate(POINTS):
            wanted = wanted_heat(
                *(placed[i], targets.boxes, targets.labels, objects),
                *(output.scale, (h, w), k, self.iou),
            )
            losses[name] = heat_loss(output.heat[:, :, i], wanted, targets.image_valid, **rates)
            hits.append(class_hits(output.heat[:, -1, i], placed[i].index, targets.labels))
        offset = offset_loss(output.offsets, placed[:4], objects)
        losses["offset"] = Mean(self.offset_weight * offset.total, offset.weight)
        accuracy = Mean.of(jnp.stack(hits), jnp.stack([objects] * len(POINTS)))
        return losses, {"class_accuracy": accuracy}

    def points(self, targets: Targets) -> Float[Array, "b m 5 2"]:
        """The extreme points and the centre of each object, in pixels of the padded batch."""
        if targets.masks is None:
            raise InputError(
                "ExtremeNet learns extreme points from masks: set data.masks=true, with data that"
                " has them"
            )
        points = extreme_points(targets.masks, targets.mask_frames, self.share)
        centre = jnp.stack(
            [
                (points[..., 1, 0] + points[..., 3, 0]) / 2,
                (points[..., 0, 1] + points[..., 2, 1]) / 2,
            ],
            axis=-1,
        )
        return jnp.concatenate([points, centre[..., None, :]], axis=-2)
