"""CenterNet's loss (arXiv 1904.07850, section 3).

Sums and their normalisers are returned separately, so that they can be added up over parts of a
batch, devices and hosts.
"""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from zoo.losses.heat_maps import gaussian_focal
from zoo.losses.mean import Mean, Means
from zoo.models.detection.parts.centre_outputs import CenterNetOutput
from zoo.ops.heat_maps import at_cells, draw_gaussians, gaussian_radius
from zoo.outputs import Targets
from zoo.types import check_choice, check_not_negative

Convention = Literal["authors", "mmdet"]


class Centres(NamedTuple):
    """The objects on the map.

    Attributes:
        cells: Column and row of the cell that the centre is in.
        offsets: The centre, from the upper left corner of this cell, in cells.
        sizes: Width and height in cells.
        radii: Of the Gaussians.
        valid: True for objects that count: those with an area on the map.
    """

    cells: Int[Array, "b m 2"]
    offsets: Float[Array, "b m 2"]
    sizes: Float[Array, "b m 2"]
    radii: Int[Array, "b m"]
    valid: Bool[Array, "b m"]


@dataclasses.dataclass(frozen=True)
class CenterNetLoss:
    """The loss of a CenterNet; the defaults are the authors'.

    Deviations: the authors add 1e-4 to the number of objects by which they divide; mmdet's
    convention takes each object at its cell, as the authors do, where mmdet takes one of the
    objects that share a cell.

    Attributes:
        heat_weight: Weight of the focal loss of the heat maps, which is divided by the number of
            cells with a centre.
        size_weight: Weight of the absolute errors of width and height, in cells; their mean over
            objects is taken.
        offset_weight: Weight of those of the offsets.
        convention: ``authors``: boxes are clipped to the centres of the map's cells; the Gaussians'
            radii are those of the authors' formula for an IoU of 0.7 and whole numbers of cells.
            ``mmdet``: boxes are not clipped; radii are exact for an IoU of 0.3.
    """

    heat_weight: float = 1.0
    size_weight: float = 0.1
    offset_weight: float = 1.0
    convention: Convention = "authors"

    whole_sizes: ClassVar[bool] = True  # whether the authors round the sizes up

    def __post_init__(self) -> None:
        check_choice("convention", self.convention, Convention)
        names = [f.name for f in dataclasses.fields(self) if f.name != "convention"]
        check_not_negative(self, names, "loss.")

    def __call__(self, output: CenterNetOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses, as means over the stacks, and metrics of the output of a model."""
        centres = self.centres(output, targets)
        stacks = [self.of_stack(one, centres, targets) for one in (*output.earlier, output)]
        losses = {
            name: Mean(jnp.stack([one[name].total for one in stacks]).mean(), last.weight)
            for name, last in stacks[-1].items()
        }
        return losses, centre_metrics(output, centres, targets)

    def centres(self, output: CenterNetOutput, targets: Targets) -> Centres:
        """The objects on the map of an output."""
        _, height, width, _ = output.heat_logits.shape
        return self.on_map(targets.boxes / output.stride, targets.valid, (height, width))

    def on_map(
        self, boxes: Float[Array, "b m 4"], valid: Bool[Array, "b m"], shape: tuple[int, int]
    ) -> Centres:
        """The objects with these boxes, ``xyxy`` in cells, on a map of height and width `shape`."""
        last = jnp.array(shape[::-1]) - 1
        if self.convention == "authors":
            boxes = jnp.clip(boxes, 0, jnp.tile(last, 2))
        low, high = jnp.split(jax.lax.stop_gradient(boxes), 2, axis=-1)
        sizes, centre = high - low, (low + high) / 2
        cells = jnp.clip(jnp.floor(centre).astype(jnp.int32), 0, last)
        positive = jnp.maximum(sizes, 0)
        if self.convention == "authors":
            whole = jnp.ceil(positive) if self.whole_sizes else positive
            radii = gaussian_radius(whole, 0.7, "centernet")
        else:
            radii = gaussian_radius(positive, 0.3)
        valid = valid & (sizes > 0).all(axis=-1)
        return Centres(cells, centre - cells, sizes, radii.astype(jnp.int32), valid)

    def of_stack(
        self,
        output: CenterNetOutput,
        centres: Centres,
        targets: Targets,
        counted: Bool[Array, "b m"] | None = None,
    ) -> Means:
        """The losses of one stack; `counted` is False for objects without size and offset."""
        _, height, width, count = output.heat_logits.shape
        index = index_of(centres.cells, width)
        wanted = draw_gaussians(
            centres.cells, centres.radii, targets.labels, centres.valid, (height, width), count
        )
        objects = centres.valid & targets.image_valid[:, None]
        if counted is not None:
            objects &= counted
        return {
            "heat": self.of_heat(output.heat_logits, wanted, targets.image_valid),
            "size": absolute_error(
                self.size_weight, output.sizes, index, centres.sizes, objects[..., None]
            ),
            "offset": absolute_error(
                self.offset_weight, output.offsets, index, centres.offsets, objects[..., None]
            ),
        }

    def of_heat(
        self,
        logits: Float[Array, "b h w k"],
        wanted: Float[Array, "b h w k"],
        images: Bool[Array, " b"],
    ) -> Mean:
        """The focal loss of heat maps, by the number of cells with a centre, or 1 without one."""
        least = 1e-4 if self.convention == "authors" else 0.0
        focal = gaussian_focal(logits, wanted, least=least).sum(axis=(1, 2, 3))
        count = (wanted == 1).sum(axis=(1, 2, 3), dtype=jnp.float32)
        both = (jnp.where(images, x, 0).sum() for x in (self.heat_weight * focal, count))
        return Mean(*both)


def index_of(cells: Int[Array, "*b 2"], width: int) -> Int[Array, "*b"]:
    """Numbers of cells, row by row, of columns and rows."""
    return cells[..., 1] * width + cells[..., 0]


def absolute_error(
    weight: float,
    maps: Float[Array, "b h w d"],
    index: Int[Array, "b m"],
    wanted: Float[Array, "b m d"],
    counted: Bool[Array, "b m _"],
) -> Mean:
    """The mean absolute error at cells, times `weight`; `counted` is for objects or for numbers."""
    found = at_cells(maps.astype(jnp.float32), index)
    counted = jnp.broadcast_to(counted, wanted.shape)
    errors = jnp.where(counted, jnp.abs(found - wanted), 0)
    return Mean(weight * errors.sum(), counted.sum(dtype=jnp.float32))


def centre_metrics(output: CenterNetOutput, centres: Centres, targets: Targets) -> Means:
    """Figures that tell whether map and objects fit together.

    Returns:
        ``class_accuracy``: share of objects in whose cell their class is the most probable one.
        ``matched_objects``: share of objects that have an area on the map, and no other object in
        their cell.
    """
    width = output.heat_logits.shape[2]
    index = index_of(centres.cells, width)
    objects = targets.valid & targets.image_valid[:, None]
    hits = at_cells(output.heat_logits, index).argmax(axis=-1) == targets.labels
    same = (index[:, :, None] == index[:, None]) & centres.valid[:, None]
    alone = centres.valid & (same.sum(axis=2) == 1)
    count = objects.sum(dtype=jnp.float32)
    return {
        "class_accuracy": Mean((hits & objects).sum(dtype=jnp.float32), count),
        "matched_objects": Mean((alone & objects).sum(dtype=jnp.float32), count),
    }
