"""Cameras and boxes in space, by round trips, and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.cameras import box_corners, project, turn_to_camera, turn_to_space, unproject

# Camera 2 of KITTI's first images.
KITTI = jnp.array(
    [
        [707.0493, 0, 604.0814, 45.75831],
        [0, 707.0493, 180.5066, -0.3454157],
        [0, 0, 1, 0.004981016],
    ]
)


def test_pixels_and_depths_give_the_points_back():
    rng = np.random.default_rng(0)
    points = jnp.asarray(rng.uniform((-20, -2, 4), (20, 3, 60), (2, 7, 3)), jnp.float32)
    cameras = jnp.stack([KITTI, KITTI * 1.1 + jnp.zeros((3, 4)).at[2, 2].set(-0.1)])
    depths = points[..., 2] + cameras[:, None, 2, 3]
    found = unproject(project(points, cameras), depths, cameras)
    np.testing.assert_allclose(found, points, rtol=1e-4, atol=1e-4)


def test_a_car_that_is_observed_along_its_length_points_away_from_the_camera():
    """KITTI: the observation angle is -pi / 2 for a car that drives away, wherever it is."""
    points = jnp.array([[3.0, 1.5, 20], [-8, 1.5, 9]])
    rotations = jnp.arctan2(-points[:, 2], points[:, 0])  # its length is along the line of sight
    camera = KITTI.at[:, 3].set(0)
    found = turn_to_camera(rotations, project(points, camera)[:, 0], camera)
    np.testing.assert_allclose(found, -np.pi / 2, atol=1e-5)


def test_turns_are_each_others_inverse_and_in_one_circle():
    alphas = jnp.linspace(-3.14, 3.14, 9)
    x = jnp.linspace(-300, 1500, 9)
    rotations = turn_to_space(alphas, x, KITTI)
    assert (jnp.abs(rotations) <= np.pi + 1e-6).all()
    np.testing.assert_allclose(turn_to_camera(rotations, x, KITTI), alphas, atol=1e-5)


@pytest.mark.parametrize(
    ("rotation", "extent"), [(0.0, (4, 1.5, 2)), (np.pi / 2, (2, 1.5, 4)), (np.pi, (4, 1.5, 2))]
)
def test_a_box_stands_on_its_location(rotation, extent):
    dimensions, location = jnp.array([[1.5, 2.0, 4.0]]), jnp.array([[5.0, 1.6, 12.0]])
    corners = box_corners(dimensions, location, jnp.array([rotation]))[0]
    np.testing.assert_allclose(corners.max(0) - corners.min(0), extent, atol=1e-5)
    np.testing.assert_allclose(corners[:4].mean(0), location[0], atol=1e-5)
    np.testing.assert_allclose(corners[4:, 1], 0.1, atol=1e-5)  # above: y is down
    front = corners[jnp.array([0, 1, 4, 5])].mean(0) - corners.mean(0)
    np.testing.assert_allclose(front[0], 2 * np.cos(rotation), atol=1e-5)
    np.testing.assert_allclose(front[2], -2 * np.sin(rotation), atol=1e-5)
