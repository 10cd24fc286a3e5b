"""CenterNet for people: a box and the joints of each.

Paper: "Objects as Points", arXiv 1904.07850, section 4.2. Reference: the authors' ``multi_pose``,
with which outputs agree. A joint is predicted twice: as a distance from the person's centre, and as
a peak of the joint's own heat map. The joints of the published weights are COCO's 17.
"""

from typing import ClassVar, no_type_check

from jaxtyping import Array, Float

from zoo.models.detection.centernet.model import CenterNet, CenterNetOutput


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class CenterNetPoseOutput(CenterNetOutput, kw_only=True):
    """What CenterNet predicts for people; the first attributes are those of `CenterNetOutput`.

    Attributes:
        joints: x and y of each joint in turn, from the upper left corner of the cell, in cells.
        joint_heat_logits: Logit of each joint for "such a joint is in this cell".
        joint_offsets: Where a joint is, from the upper left corner of its cell, in cells.
    """

    joints: Float[Array, "b h w j2"]
    joint_heat_logits: Float[Array, "b h w j"]
    joint_offsets: Float[Array, "b h w 2"]


class CenterNetPose(CenterNet):
    """Images to heat maps of people and of joints.

    Attributes:
        num_classes: Number of classes, without the background: people only.
        num_keypoints: Joints of a person.
    """

    num_classes: int = 1
    num_keypoints: int = 17

    output: ClassVar[type[CenterNetOutput]] = CenterNetPoseOutput

    @property
    def output_dims(self) -> dict[str, int]:
        """Name and features of each output of the heads."""
        joints = {"joints": 2 * self.num_keypoints, "joint_heat_logits": self.num_keypoints}
        return {**super().output_dims, **joints, "joint_offsets": 2}
