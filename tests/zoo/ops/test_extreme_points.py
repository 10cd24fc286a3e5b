import jax
import jax.numpy as jnp
import numpy as np

from zoo.ops.extreme_points import extreme_points


def searched(mask, share):
    """The definition in numpy: the middle of the pixels that are almost outermost."""
    y, x = np.nonzero(mask)
    sides = (y, x, -y, -x)
    across = (x, y, x, y)
    found = []
    for outward, other in zip(sides, across, strict=True):
        near = outward - outward.min() <= share * (np.ptp(outward) + 1)
        middle = (other[near].min() + other[near].max() + 1) / 2
        end = outward.min() if outward is y or outward is x else 1 - outward.min()
        found.append((middle, end) if other is x else (end, middle))
    return np.array(found)


FIND = jax.jit(extreme_points, static_argnums=2)


def test_equals_the_definition():
    rng = np.random.default_rng(0)
    masks = rng.random((2, 3, 30, 40)) < 0.01
    masks[0, 0, 5:25, 7:31] = True
    masks[1, 1] = False
    masks[1, 1, 29, 0] = True
    for share in (0.0, 0.1):
        found = FIND(jnp.asarray(masks), None, share)
        expected = [[searched(one, share) for one in image] for image in masks]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_masks_in_frames_are_those_of_the_image():
    """An object on a grid over its box; cells count from a half on."""
    mask = np.zeros((8, 12), np.uint8)
    mask[1:7, 2:9] = 128
    mask[0, 4] = 255
    mask[7, 11] = 127
    frame = np.array([10.0, 20, 34, 28])
    found = FIND(jnp.asarray(mask), jnp.asarray(frame), 0.02)
    whole = np.zeros((40, 60), bool)
    whole[20:28, 10:34] = np.repeat(mask >= 128, 2, axis=1)
    np.testing.assert_allclose(found, FIND(jnp.asarray(whole), None, 0.02), atol=1e-5)
    np.testing.assert_allclose(found[0], [19, 20])
