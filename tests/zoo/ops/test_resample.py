import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.resample import (
    center_crop,
    depth_to_space,
    resize_nearest,
    upsample_bilinear,
    upsample_nearest,
)


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(0), (2, 4, 6, 3))


def test_depth_to_space_of_a_dense_layer_is_a_transposed_convolution(x):
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 2, 5))
    found = depth_to_space(x @ kernel.reshape(3, -1))
    turned = kernel.transpose(1, 2, 0, 3)[::-1, ::-1]  # jax does not flip the kernel, torch does
    expected = jax.lax.conv_transpose(x, turned, (2, 2), "VALID")
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "upsample"), [("nearest", upsample_nearest), ("bilinear", upsample_bilinear)]
)
def test_upsampling_is_jaxs(x, method, upsample):
    expected = jax.image.resize(x, (2, 8, 12, 3), method)
    np.testing.assert_allclose(upsample(x), expected, atol=1e-6)
    one = x[:, :1, :1]
    np.testing.assert_allclose(upsample(one), jnp.tile(one, (1, 2, 2, 1)), atol=1e-6)


def test_center_crop(x):
    np.testing.assert_array_equal(center_crop(x, (2, 3)), x[:, 1:3, 1:4])
    np.testing.assert_array_equal(center_crop(x[..., 0], (4, 6)), x[..., 0])


@pytest.mark.parametrize("sizes", [((6, 9), (3, 3)), ((5, 7), (2, 3)), ((3, 2), (7, 5))])
def test_cells_are_taken_by_the_floor_rule(sizes):
    (rows, columns), new = sizes
    x = np.arange(2 * rows * columns * 3, dtype=np.float32).reshape(2, rows, columns, 3)
    resized = resize_nearest(jnp.asarray(x), new)
    assert resized.shape == (2, *new, 3)
    for r, c in np.ndindex(*new):
        expected = x[:, r * rows // new[0], c * columns // new[1]]
        np.testing.assert_array_equal(resized[:, r, c], expected)


def test_masks_without_channels_and_sizes_that_stay():
    mask = jnp.asarray(np.arange(12).reshape(1, 3, 4) % 3 == 0)
    assert resize_nearest(mask, (3, 4)) is mask
    assert resize_nearest(mask, (2, 2)).dtype == bool


def test_indices_are_those_of_torch_where_float32_rounds():
    """torch, from 1064 rows to 34, takes row 532 for row 17, and never a row after the last."""
    x = jnp.arange(1064)[None, :, None]
    rows = np.asarray(resize_nearest(x, (34, 1)))[0, :, 0]
    step = np.float32(1064) / np.float32(34)
    np.testing.assert_array_equal(rows, np.floor(np.arange(34, dtype=np.float32) * step))
