"""Converts the output of CenterNet to detections (arXiv 1904.07850, section 4.1)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from zoo.models.detection.parts.centre_outputs import CenterNetOutput
from zoo.ops.heat_maps import Cells, at_cells, peaks, top_cells
from zoo.outputs import Detections


def centre_cells(output: CenterNetOutput) -> Cells:
    """The peaks of the heat maps: the cells of the best detections, best first.

    A peak is the largest of its 3 x 3 neighbours. Instead of suppressing boxes that overlap, only
    peaks are taken. A cell that is none has the score 0.
    """
    heat = jax.nn.sigmoid(output.heat_logits.astype(jnp.float32))
    return top_cells(peaks(heat), output.most)


def centre_boxes(output: CenterNetOutput, cells: Cells) -> Float[Array, "b n 4"]:
    """The boxes of the objects of cells, ``xyxy`` in pixels of the padded batch."""
    corner = jnp.stack([cells.x, cells.y], axis=-1).astype(jnp.float32)
    centre = corner + at_cells(output.offsets.astype(jnp.float32), cells.index)
    half = at_cells(output.sizes.astype(jnp.float32), cells.index) / 2
    return jnp.concatenate([centre - half, centre + half], axis=-1) * output.stride


def decode(output: CenterNetOutput, sizes: Int[Array, "b 2"]) -> Detections:
    """The objects, best first; boxes may extend beyond the image, as in the authors' code.

    Args:
        output: Of the model.
        sizes: Height and width of each image without padding; the output does not need them.
    """
    del sizes
    cells = centre_cells(output)
    boxes = centre_boxes(output, cells)
    return Detections(boxes, cells.scores, cells.labels, cells.scores > 0)
