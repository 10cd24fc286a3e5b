"""CenterNet for boxes in space, of one image and its camera.

Paper: "Objects as Points", arXiv 1904.07850, section 4.2. Reference: the authors' ``ddd``, with
which outputs agree. The classes of the published weights, for KITTI, are pedestrian, car, cyclist.

Deviations: see `zoo.models.detection.centernet.model`; the authors resize images to a width of 1280
px, and cut them to a height of 384.
"""

from typing import ClassVar, no_type_check

from jaxtyping import Array, Float

from zoo.models.detection.centernet.model import CenterNet, CenterNetOutput


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class CenterNet3DOutput(CenterNetOutput, kw_only=True):
    """What CenterNet predicts in space; the first attributes are those of `CenterNetOutput`.

    Attributes:
        depth_logits: The depth in metres is 1 / sigmoid - 1 of this.
        rotations: Of the observation angle, for each of two bins: two logits for "the angle is not
            in the bin" and "it is", and sine and cosine from the bin's centre, -pi / 2 and pi / 2.
        dimensions: Height, width and length in metres.
    """

    depth_logits: Float[Array, "b h w 1"]
    rotations: Float[Array, "b h w 8"]
    dimensions: Float[Array, "b h w 3"]


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
