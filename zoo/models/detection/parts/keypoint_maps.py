"""Heat maps of the points that mark objects: corners in CornerNet, extreme points in ExtremeNet.

CornerNet, arXiv 1808.01244, section 3.2. References: the authors' code, and mmdet's `CornerHead`.
A cell is an element of a map; its number counts row by row. The axis s is for the hourglasses,
whose maps are all trained, and of which the last one's are decoded.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.layers.conv import conv_layer
from zoo.layers.initializers import TORCH_LINEAR_INIT
from zoo.losses.heat_maps import gaussian_focal
from zoo.losses.mean import Mean
from zoo.ops.heat_maps import at_cells, draw_gaussians, gaussian_radius

HEAT_BIAS = -2.19
"""The first logit of heat maps, whose probability is 0.1."""

Scale = tuple[float, float]
"""Cells for a pixel of the padded image, across and down: ``128 / 511`` where it has 511 pixels."""


class MapHead(nn.Module):
    """A 3 x 3 convolution with a ReLU, and a 1 x 1 convolution in float32.

    Attributes:
        dim: Features of the output.
        hidden_dim: Features of the first convolution.
        bias: With which the output starts.
        dtype: Dtype of the first convolution; parameters are float32.
    """

    dim: int
    hidden_dim: int = 256
    bias: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """The map."""
        init = {"bias": True, "kernel_init": TORCH_LINEAR_INIT}
        x = nn.relu(conv_layer(self.hidden_dim, 3, dtype=self.dtype, name="hidden", **init)(x))
        init["bias_init"] = nn.initializers.constant(self.bias)
        conv = conv_layer(self.dim, 1, dtype=jnp.float32, name="out", **init)
        return conv(x.astype(jnp.float32))


class Placed(NamedTuple):
    """One kind of point of each object, on the maps.

    Attributes:
        places: Column and row of its cell.
        index: The number of its cell.
        offsets: How far right of the cell's left and below its upper side it is, in cells.
    """

    places: Int[Array, "b m 2"]
    index: Int[Array, "b m"]
    offsets: Float[Array, "b m 2"]


def place_points(points: Float[Array, "b m 2"], scale: Scale, shape: tuple[int, int]) -> Placed:
    """The cells of points; those beyond the maps' right and lower sides belong to the last cells.

    Args:
        points: x and y in pixels of the padded batch, at least 0.
        scale: Cells for a pixel.
        shape: Height and width of the maps.
    """
    scaled = points * jnp.array(scale)
    last = jnp.array(shape[::-1]) - 1
    places = jnp.clip(jnp.floor(scaled).astype(jnp.int32), 0, last)
    return Placed(places, places[..., 1] * shape[1] + places[..., 0], scaled - places)


def wanted_heat(
    placed: Placed,
    boxes: Float[Array, "b m 4"],
    labels: Int[Array, "b m"],
    valid: Bool[Array, "b m"],
    scale: Scale,
    shape: tuple[int, int],
    num_classes: int,
    iou: float,
) -> Float[Array, "b h w k"]:
    """The maps that one kind of point should have.

    Args:
        placed: The points.
        boxes: Of the objects, ``xyxy`` in pixels of the padded batch.
        labels: Of the objects.
        valid: True where there is an object.
        scale: Cells for a pixel.
        shape: Height and width of the maps.
        num_classes: Number of maps.
        iou: Of the object and a box with moved corners: see `gaussian_radius`.
    """
    sizes = jnp.ceil((boxes[..., 2:] - boxes[..., :2]) * jnp.array(scale))
    radii = gaussian_radius(jnp.maximum(sizes, 0), iou).astype(jnp.int32)
    return draw_gaussians(placed.places, radii, labels, valid, shape, num_classes)


def heat_loss(
    logits: Float[Array, "b s h w k"],
    wanted: Float[Array, "b h w k"],
    images: Bool[Array, " b"],
    *,
    alpha: float,
    beta: float,
) -> Mean:
    """The focal loss of the maps of one kind of point, as a mean over the hourglasses.

    It is divided by the number of cells that are 1 in `wanted`, or by 1 if there are none.

    Args:
        logits: Of the maps.
        wanted: The maps that they should have.
        images: False for images that do not count.
        alpha: See `gaussian_focal`.
        beta: See there.
    """
    every = jnp.broadcast_to(wanted[:, None], logits.shape)
    losses = gaussian_focal(logits, every, alpha=alpha, beta=beta)
    losses = losses.mean(axis=1).sum(axis=(1, 2, 3))
    cells = (wanted == 1).sum(axis=(1, 2, 3), dtype=jnp.float32)
    return Mean(jnp.where(images, losses, 0).sum(), jnp.where(images, cells, 0).sum())


def at_points(maps: Float[Array, "b s h w d"], index: Int[Array, "b m"]) -> Float[Array, "b s m d"]:
    """The features of cells, of all hourglasses."""
    return jax.vmap(at_cells, in_axes=(1, None), out_axes=1)(maps, index)


def stack_maps(maps: Sequence[Sequence[Float[Array, "b h w d"]]]) -> Float[Array, "b s p h w d"]:
    """One array of the maps of each hourglass and each kind of point, p."""
    return jnp.stack([jnp.stack(points, axis=1) for points in maps], axis=1)


def class_hits(
    logits: Float[Array, "b h w k"], index: Int[Array, "b m"], labels: Int[Array, "b m"]
) -> Bool[Array, "b m"]:
    """Whether the most probable class in the cell of a point is that of its object."""
    return at_cells(logits, index).argmax(axis=-1) == labels
