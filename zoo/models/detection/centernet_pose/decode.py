"""Converts the output of CenterNet for people to detections (arXiv 1904.07850, section 4.2)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from zoo.models.detection.parts.centre_decode import centre_boxes, centre_cells
from zoo.models.detection.parts.centre_outputs import CenterNetPoseOutput
from zoo.ops.heat_maps import at_cells, peaks, top_of_each_class
from zoo.outputs import Detections

LEAST_SCORE = 0.1  # of the peak of a joint's heat map
FARTHEST = 0.3  # share of the longer side of the box between the two places of a joint


def decode(output: CenterNetPoseOutput, sizes: Int[Array, "b 2"]) -> Detections:
    """The people with their joints, best first.

    A joint is where the person's centre says it is or, if there is one, at the nearest peak of the
    joint's heat map with a probability of at least 0.1, which must be in the person's box, and not
    farther away than 0.3 of the box's longer side. The score of a joint is the value of its heat
    map at its cell.

    Args:
        output: Of the model.
        sizes: Height and width of each image without padding; the output does not need them.
    """
    del sizes
    cells = centre_cells(output)
    boxes = centre_boxes(output, cells)
    b, n = cells.index.shape
    corner = jnp.stack([cells.x, cells.y], axis=-1)[:, :, None].astype(jnp.float32)
    places = at_cells(output.joints.astype(jnp.float32), cells.index).reshape(b, n, -1, 2) + corner
    heat = jax.nn.sigmoid(output.joint_heat_logits.astype(jnp.float32))
    places = snapped(places, boxes / output.stride, heat, output.joint_offsets, output.most)
    keypoints = jnp.concatenate(
        [places * output.stride, values_at(heat, places)[..., None]], axis=-1
    )
    found = Detections(boxes, cells.scores, cells.labels, cells.scores > 0)
    return found.replace(keypoints=keypoints)


def snapped(
    places: Float[Array, "b n j 2"],
    boxes: Float[Array, "b n 4"],
    heat: Float[Array, "b h w j"],
    offsets: Float[Array, "b h w 2"],
    most: int,
) -> Float[Array, "b n j 2"]:
    """The joints, each at the nearest peak of its heat map if this fits: see `decode`.

    Args:
        places: Where the centres say that the joints are, in cells.
        boxes: Of the people, ``xyxy`` in cells.
        heat: Probabilities.
        offsets: Of joints in their cells.
        most: Number of best peaks of each joint's heat map.
    """
    found = top_of_each_class(peaks(heat), most)
    b, j, k = found.index.shape
    inside = at_cells(offsets.astype(jnp.float32), found.index.reshape(b, -1)).reshape(b, j, k, 2)
    candidates = jnp.stack([found.x, found.y], axis=-1) + inside
    good = found.scores > LEAST_SCORE
    away = jnp.linalg.norm(places[:, :, :, None] - candidates[:, None], axis=-1)  # b n j k
    away = jnp.where(good[:, None], away, jnp.inf)
    nearest = jnp.argmin(away, axis=-1)  # b n j
    peak = jnp.take_along_axis(candidates[:, None], nearest[..., None, None], axis=3)[..., 0, :]
    low, high = jnp.split(boxes[:, :, None], 2, axis=-1)
    farthest = FARTHEST * (high - low).max(axis=-1)
    fits = ((peak >= low) & (peak <= high)).all(axis=-1) & (away.min(axis=-1) <= farthest)
    return jnp.where(fits[..., None], peak, places)


def values_at(
    heat: Float[Array, "b h w j"], places: Float[Array, "b n j 2"]
) -> Float[Array, "b n j"]:
    """The value of each joint's heat map at its cell; 0 for joints outside of the map."""
    _, h, w, _ = heat.shape
    limits = jnp.array([w, h])
    inside = ((places >= 0) & (places < limits)).all(axis=-1)
    x, y = jnp.unstack(jnp.where(inside[..., None], jnp.floor(places), 0).astype(int), axis=-1)
    index = (y * w + x).swapaxes(1, 2)  # b j n
    flat = heat.reshape(heat.shape[0], h * w, -1).swapaxes(1, 2)
    return jnp.where(inside, jnp.take_along_axis(flat, index, axis=2).swapaxes(1, 2), 0)
