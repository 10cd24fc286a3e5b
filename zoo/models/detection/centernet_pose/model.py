"""CenterNet for people: a box and the joints of each.

Paper: "Objects as Points", arXiv 1904.07850, section 4.2. Reference: the authors' ``multi_pose``,
with which outputs agree. A joint is predicted twice: as a distance from the person's centre, and as
a peak of the joint's own heat map. The joints of the published weights are COCO's 17.
"""

from typing import ClassVar

from zoo.models.detection.centernet.model import CenterNet
from zoo.models.detection.parts.centre_outputs import CenterNetOutput, CenterNetPoseOutput


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
