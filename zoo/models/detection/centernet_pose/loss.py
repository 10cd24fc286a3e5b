"""The loss of CenterNet for people (arXiv 1904.07850, section 4.2)."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from zoo.losses.mean import Means
from zoo.models.detection.parts.centre_loss import CenterNetLoss, Centres, absolute_error, index_of
from zoo.models.detection.parts.centre_outputs import CenterNetPoseOutput
from zoo.ops.heat_maps import draw_each_gaussians
from zoo.outputs import Targets
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class CenterNetPoseLoss(CenterNetLoss):
    """The loss of a CenterNet, and those of the joints; the defaults are the authors'.

    People without a labelled joint are in the heat map of centres, but have no size or offset to
    learn. Joints outside of the map do not count. `offset_weight` is also that of joints in their
    cells.

    Attributes:
        joint_weight: Weight of the absolute errors of the joints' distances from the centre.
        joint_heat_weight: Weight of the focal loss of the joints' heat maps.
    """

    joint_weight: float = 1.0
    joint_heat_weight: float = 1.0

    def __call__(self, output: CenterNetPoseOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a model.

        Raises:
            InputError: If the data have no keypoints.
        """
        if targets.keypoints is None:
            raise InputError(
                "CenterNet for people learns keypoints: set data.keypoints=true, with data that"
                " has them"
            )
        return super().__call__(output, targets)

    def of_stack(
        self,
        output: CenterNetPoseOutput,
        centres: Centres,
        targets: Targets,
        counted: Bool[Array, "b m"] | None = None,
    ) -> Means:
        """The losses of one stack."""
        assert targets.keypoints is not None
        labelled = (targets.keypoints[..., 2] > 0).any(axis=-1)
        losses = super().of_stack(output, centres, targets, labelled)
        joints = targets.keypoints[..., :2] / output.stride
        _, height, width, _ = output.heat_logits.shape
        inside = ((joints >= 0) & (joints < jnp.array([width, height]))).all(axis=-1)
        there = inside & (targets.keypoints[..., 2] > 0) & centres.valid[..., None]
        return losses | self.of_joints(output, centres, targets, joints, there)

    def of_joints(
        self,
        output: CenterNetPoseOutput,
        centres: Centres,
        targets: Targets,
        joints: Float[Array, "b m j 2"],
        there: Bool[Array, "b m j"],
    ) -> Means:
        """The three losses of the joints.

        Args:
            output: Of the model.
            centres: The people on the map.
            targets: The same people.
            joints: In cells.
            there: False for joints that do not count.
        """
        _, height, width, _ = output.heat_logits.shape
        (b, m, j), images = there.shape, targets.image_valid
        cells = jnp.where(there[..., None], jnp.floor(joints), 0).astype(jnp.int32)
        wanted = draw_each_gaussians(cells, centres.radii, there, (height, width))
        heat = self.of_heat(output.joint_heat_logits, wanted, images)
        there = there & images[:, None, None]
        distances = (joints - centres.cells[:, :, None]).reshape(b, m, -1)
        return {
            "joint_heat": heat.replace(total=self.joint_heat_weight * heat.total),
            "joint": absolute_error(
                self.joint_weight,
                output.joints,
                index_of(centres.cells, width),
                distances,
                jnp.repeat(there, 2, axis=-1),
            ),
            "joint_offset": absolute_error(
                self.offset_weight,
                output.joint_offsets,
                index_of(cells, width).reshape(b, -1),
                (joints - cells).reshape(b, -1, 2),
                there.reshape(b, m * j, 1),
            ),
        }
