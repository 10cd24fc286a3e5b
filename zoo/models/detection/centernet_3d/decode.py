"""Converts the output of CenterNet to boxes in space (arXiv 1904.07850, section 4.2)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from zoo.models.detection.parts.centre_decode import centre_boxes, centre_cells
from zoo.models.detection.parts.centre_outputs import CenterNet3DOutput
from zoo.ops.cameras import turn_to_space, unproject
from zoo.ops.heat_maps import at_cells
from zoo.outputs import Solids

_LEAST = 1e-6  # the authors'


def depth_of(logits: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Depths in metres of what the network predicts."""
    return 1 / (jax.nn.sigmoid(logits.astype(jnp.float32)) + _LEAST) - 1


def alpha_of(rotations: Float[Array, "*b 8"]) -> Float[Array, "*b"]:
    """Observation angles, of the more probable bin: see `CenterNet3DOutput`."""
    first, second = jnp.split(rotations.astype(jnp.float32), 2, axis=-1)
    angles = [
        jnp.arctan2(part[..., 2], part[..., 3]) + centre
        for part, centre in ((first, -np.pi / 2), (second, np.pi / 2))
    ]
    return jnp.where(first[..., 1] > second[..., 1], *angles)


def solids(output: CenterNet3DOutput, cameras: Float[Array, "b 3 4"]) -> Solids:
    """The boxes in space, best first.

    Args:
        output: Of the model.
        cameras: Of each image, in pixels of the padded batch: if an image was resized, the first
            two rows of its matrix are, too.
    """
    cells = centre_cells(output)
    boxes = centre_boxes(output, cells)
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    depths = depth_of(at_cells(output.depth_logits, cells.index))[..., 0]
    dimensions = at_cells(output.dimensions, cells.index).astype(jnp.float32)
    locations = unproject(centres, depths, cameras)
    locations = locations.at[..., 1].add(dimensions[..., 0] / 2)  # from the middle to the bottom
    alphas = alpha_of(at_cells(output.rotations, cells.index))
    return Solids(
        boxes,
        cells.scores,
        cells.labels,
        cells.scores > 0,
        alphas,
        dimensions,
        locations,
        turn_to_space(alphas, centres[..., 0], cameras),
    )
