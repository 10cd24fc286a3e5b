import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.resample import (
    center_crop,
    depth_to_space,
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
