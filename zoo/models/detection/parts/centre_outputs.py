"""What CenterNet predicts: for boxes, for people, and for boxes in space."""

from typing import no_type_check

from flax import struct
from jaxtyping import Array, Float


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class CenterNetOutput(struct.PyTreeNode):
    """What CenterNet predicts for each cell.

    Attributes:
        heat_logits: Logit of each class for "an object's centre is in this cell".
        sizes: Width and height of the object, in cells.
        offsets: Where its centre is, from the upper left corner of the cell, in cells.
        earlier: In training: the same of the stacks before the last one; only an hourglass has
            several.
        stride: Pixels of the padded batch from one cell to the next.
        most: Largest number of detections of an image.
    """

    heat_logits: Float[Array, "b h w k"]
    sizes: Float[Array, "b h w 2"]
    offsets: Float[Array, "b h w 2"]
    earlier: "tuple[CenterNetOutput, ...]" = ()
    stride: int = struct.field(pytree_node=False, default=4)
    most: int = struct.field(pytree_node=False, default=100)


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
