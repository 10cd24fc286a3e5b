"""Cameras and boxes in space, in KITTI's conventions.

The axes are those of a camera: x right, y down, z forwards, in metres. A camera is a matrix that
takes homogeneous points in space to homogeneous pixels. A box stands on its location, the middle of
its bottom; its rotation is about y, 0 if its length is along x. Reference: the `ddd_utils.py` of
CenterNet's authors.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def project(
    points: Float[Array, "*b n 3"], cameras: Float[Array, "*b 3 4"]
) -> Float[Array, "*b n 2"]:
    """Points in space as the camera sees them, x and y in pixels.

    >>> camera = jnp.array([[100.0, 0, 50, 0], [0, 100, 40, 0], [0, 0, 1, 0]])
    >>> project(jnp.array([[1.0, 0, 5]]), camera).tolist()
    [[70.0, 40.0]]
    """
    turned = jnp.einsum("...ij,...nj->...ni", cameras[..., :3], points, precision="highest")
    seen = turned + cameras[..., None, :, 3]
    return seen[..., :2] / seen[..., 2:]


def unproject(
    pixels: Float[Array, "*b n 2"], depths: Float[Array, "*b n"], cameras: Float[Array, "*b 3 4"]
) -> Float[Array, "*b n 3"]:
    """The points in space at pixels, with the third coordinate that `project` divides by.

    As in the authors' code, the matrix has only zeros besides focal lengths, the principal point,
    the last column and the 1 of the last row.

    Args:
        pixels: x and y.
        depths: In metres, as the camera sees it: z plus the last number of the matrix.
        cameras: One for each image.
    """
    cameras = cameras[..., None, :, :]
    z = depths - cameras[..., 2, 3]
    across, down = (
        (pixels[..., i] * depths - cameras[..., i, 3] - cameras[..., i, 2] * z) / cameras[..., i, i]
        for i in range(2)
    )
    return jnp.stack([across, down, z], axis=-1)


def turn_to_space(
    alphas: Float[Array, "*b n"], x: Float[Array, "*b n"], cameras: Float[Array, "*b 3 4"]
) -> Float[Array, "*b n"]:
    """Rotations of boxes, from the angles at which the camera observes them.

    Args:
        alphas: Observation angles, -pi..pi: the rotation less the direction to the box.
        x: Of the boxes' centres, in pixels.
        cameras: One for each image.

    Returns:
        Angles in -pi..pi.
    """
    return _wrapped(alphas + _direction(x, cameras))


def turn_to_camera(
    rotations: Float[Array, "*b n"], x: Float[Array, "*b n"], cameras: Float[Array, "*b 3 4"]
) -> Float[Array, "*b n"]:
    """The inverse of `turn_to_space`."""
    return _wrapped(rotations - _direction(x, cameras))


def _direction(x: Float[Array, "*b n"], cameras: Float[Array, "*b 3 4"]) -> Float[Array, "*b n"]:
    """The angle from the camera's axis to a column of pixels."""
    return jnp.arctan2(x - cameras[..., None, 0, 2], cameras[..., None, 0, 0])


def _wrapped(angles: Float[Array, "*b n"]) -> Float[Array, "*b n"]:
    """Angles of -2 pi..2 pi, in -pi..pi."""
    angles = jnp.where(angles > np.pi, angles - 2 * np.pi, angles)
    return jnp.where(angles < -np.pi, angles + 2 * np.pi, angles)


def box_corners(
    dimensions: Float[Array, "*b n 3"],
    locations: Float[Array, "*b n 3"],
    rotations: Float[Array, "*b n"],
) -> Float[Array, "*b n 8 3"]:
    """The corners of boxes: the four at the bottom, then those above them.

    Args:
        dimensions: Height, width and length in metres.
        locations: In metres.
        rotations: About y.
    """
    height, width, length = jnp.split(dimensions, 3, axis=-1)
    x = length / 2 * np.array([1, 1, -1, -1] * 2)
    y = -height * np.repeat([0, 1], 4)
    z = width / 2 * np.array([1, -1, -1, 1] * 2)
    cos, sin = jnp.cos(rotations)[..., None], jnp.sin(rotations)[..., None]
    turned = jnp.stack([cos * x + sin * z, y, -sin * x + cos * z], axis=-1)
    return turned + locations[..., None, :]
