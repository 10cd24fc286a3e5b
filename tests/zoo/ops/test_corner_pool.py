import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.corner_pool import corner_pool

# Direction -> axis, and step from a pixel to the next that counts for it.
STEPS = {"top": (0, 1), "left": (1, 1), "bottom": (0, -1), "right": (1, -1)}


def looped(x, direction):
    """The largest value on the way from each pixel to a side of the map."""
    axis, step = STEPS[direction]
    found = np.empty_like(x)
    for i, j in np.ndindex(*x.shape[:2]):
        value, place = x[i, j], [i, j]
        while 0 <= place[axis] < x.shape[axis]:
            value = np.maximum(value, x[tuple(place)])
            place[axis] += step
        found[i, j] = value
    return found


@pytest.mark.parametrize("direction", STEPS)
@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 4, 1), (6, 1, 2)])
def test_equals_a_loop(direction, shape):
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    found = corner_pool(jnp.asarray(x), direction)
    np.testing.assert_array_equal(found, np.stack([looped(one, direction) for one in x]))


@pytest.mark.parametrize("direction", STEPS)
def test_the_gradient_goes_to_the_largest_pixel(direction):
    x = np.random.default_rng(1).normal(size=(1, 5, 6, 2)).astype(np.float32)
    weights = np.random.default_rng(2).normal(size=x.shape)
    gradient = jax.jit(jax.grad(lambda x: (corner_pool(x, direction) * weights).sum()))
    found = gradient(jnp.asarray(x))
    pooled, expected = looped(x[0], direction), np.zeros(x.shape[1:])
    for i, j, c in np.ndindex(*x.shape[1:]):
        (row,), (column,) = np.nonzero(x[0, :, :, c] == pooled[i, j, c])
        expected[row, column, c] += weights[0, i, j, c]
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
