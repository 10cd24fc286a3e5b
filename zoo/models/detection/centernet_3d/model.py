"""CenterNet for boxes in space, of one image and its camera.

Paper: "Objects as Points", arXiv 1904.07850, section 4.2. Reference: the authors' ``ddd``, with
which outputs agree. The classes of the published weights, for KITTI, are pedestrian, car, cyclist.

Deviations: see `zoo.models.detection.centernet.model`; the authors resize images to a width of 1280
px, and cut them to a height of 384.
"""

from typing import ClassVar

from zoo.models.detection.centernet.model import CenterNet
from zoo.models.detection.parts.centre_outputs import CenterNet3DOutput, CenterNetOutput


class CenterNet3D(CenterNet):
    """Images to heat maps of centres, and the boxes in space there.

    Attributes:
        num_classes: Number of classes, without the background.
    """

    num_classes: int = 3

    output: ClassVar[type[CenterNetOutput]] = CenterNet3DOutput

    @property
    def output_dims(self) -> dict[str, int]:
        """Name and features of each output of the heads."""
        return {**super().output_dims, "depth_logits": 1, "rotations": 8, "dimensions": 3}
