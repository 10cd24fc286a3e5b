"""The loss of CenterNet for boxes in space (arXiv 1904.07850, section 4.2)."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from zoo.losses.boxes import smooth_l1
from zoo.losses.mean import Mean, Means
from zoo.models.detection.centernet_3d.decode import depth_of
from zoo.models.detection.parts.centre_loss import (
    CenterNetLoss,
    Centres,
    absolute_error,
    index_of,
)
from zoo.models.detection.parts.centre_outputs import CenterNet3DOutput
from zoo.ops.heat_maps import at_cells
from zoo.outputs import Targets

_OVERLAP = np.pi / 6  # of a bin with the other one, at each end


@dataclasses.dataclass(frozen=True)
class CenterNet3DLoss(CenterNetLoss):
    """The loss of a CenterNet, and those of depth, dimensions and rotation.

    The last three need `Targets.solids`; without them, only the others are computed. All are means
    over objects; the authors' are means over a fixed number of objects, with zeros for padding, and
    their radii are those of sizes that are not rounded.

    Attributes:
        depth_weight: Weight of the absolute error of the depth, in metres.
        dimension_weight: Weight of the absolute errors of height, width and length, in metres.
        rotation_weight: Weight of the loss of the observation angle: the cross-entropies of the two
            bins, and for each bin smooth L1 of sine and cosine of the angles that are in it.
    """

    depth_weight: float = 1.0
    dimension_weight: float = 1.0
    rotation_weight: float = 1.0

    whole_sizes: ClassVar[bool] = False

    def of_stack(
        self,
        output: CenterNet3DOutput,
        centres: Centres,
        targets: Targets,
        counted: Bool[Array, "b m"] | None = None,
    ) -> Means:
        """The losses of one stack."""
        losses = super().of_stack(output, centres, targets, counted)
        if (solids := targets.solids) is None:
            return losses
        index = index_of(centres.cells, output.heat_logits.shape[2])
        objects = centres.valid & targets.image_valid[:, None]
        return losses | {
            "depth": absolute_error(
                self.depth_weight,
                depth_of(output.depth_logits),
                index,
                solids.locations[..., 2:],
                objects[..., None],
            ),
            "dimension": absolute_error(
                self.dimension_weight,
                output.dimensions,
                index,
                solids.dimensions,
                objects[..., None],
            ),
            **self.of_rotations(at_cells(output.rotations, index), solids.alphas, objects),
        }

    def of_rotations(
        self,
        found: Float[Array, "b m 8"],
        alphas: Float[Array, "b m"],
        objects: Bool[Array, "b m"],
    ) -> Means:
        """The losses of the observation angles: of the bins, and of the angles in each."""
        found = found.astype(jnp.float32)
        bins, losses = jnp.zeros(alphas.shape), {}
        for i, (inside, centre) in enumerate(angle_bins(alphas)):
            part = found[..., 4 * i : 4 * i + 4]
            entropy = optax.softmax_cross_entropy_with_integer_labels(
                part[..., :2], inside.astype(jnp.int32)
            )
            bins += entropy
            angle = alphas - centre
            errors = part[..., 2:] - jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
            loss = Mean.of(smooth_l1(errors).sum(axis=-1), objects & inside)
            losses[f"angle_{i}"] = Mean(self.rotation_weight * loss.total, loss.weight)
        loss = Mean.of(bins, objects)
        return {"bins": Mean(self.rotation_weight * loss.total, loss.weight), **losses}


def angle_bins(
    alphas: Float[Array, "*b"],
) -> tuple[tuple[Bool[Array, "*b"], float], tuple[Bool[Array, "*b"], float]]:
    """Which angles are in each of the two bins, and the centres of the bins."""
    first = (alphas < _OVERLAP) | (alphas > np.pi - _OVERLAP)
    second = (alphas > -_OVERLAP) | (alphas < -np.pi + _OVERLAP)
    return (first, -np.pi / 2), (second, np.pi / 2)
