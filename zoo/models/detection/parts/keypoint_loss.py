"""Targets and losses of heat maps of the points that mark objects.

CornerNet, arXiv 1808.01244, section 3.2. References: the authors' code, and mmdet's `CornerHead`.
A cell is an element of a map; its number counts row by row. The axis s is for the hourglasses.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from zoo.losses.boxes import smooth_l1
from zoo.losses.heat_maps import gaussian_focal
from zoo.losses.mean import Mean
from zoo.models.detection.parts.keypoint_maps import Scale
from zoo.ops.heat_maps import at_cells, draw_gaussians, gaussian_radius


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


def class_hits(
    logits: Float[Array, "b h w k"], index: Int[Array, "b m"], labels: Int[Array, "b m"]
) -> Bool[Array, "b m"]:
    """Whether the most probable class in the cell of a point is that of its object."""
    return at_cells(logits, index).argmax(axis=-1) == labels


def at_points(maps: Float[Array, "b s h w d"], index: Int[Array, "b m"]) -> Float[Array, "b s m d"]:
    """The features of cells, of all hourglasses."""
    return jax.vmap(at_cells, in_axes=(1, None), out_axes=1)(maps, index)


def offset_loss(
    maps: Float[Array, "b s p h w 2"], points: list[Placed], objects: Bool[Array, "b m"]
) -> Mean:
    """Smooth L1 of offsets: its sum over kinds of points and coordinates, as a mean over objects.

    Args:
        maps: The predicted offsets.
        points: Each kind of point.
        objects: True where there is an object.
    """
    total = jnp.zeros(())
    for kind, placed in enumerate(points):
        found = at_points(maps[:, :, kind], placed.index)
        errors = smooth_l1(found - placed.offsets[:, None]).sum(axis=-1).mean(axis=1)
        total += jnp.where(objects, errors, 0).sum()
    return Mean(total, objects.sum(dtype=jnp.float32))
