import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers.deconv import Deconv, Upsample


@pytest.mark.parametrize(
    ("size", "stride"), [(2, 2), (4, 2), (6, 2), (3, 3), (5, 3), (1, 1), (3, 1)]
)
def test_equals_a_convolution_of_the_dilated_input_and_its_gradient(size, stride):
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 6))
    module = Deconv(3, size, stride)
    params = module.init(jax.random.key(1), x)["params"]
    params["bias"] += jnp.arange(3)
    pad = size - 1 - (size - stride) // 2

    def xla(params, x):
        y = jax.lax.conv_general_dilated(
            x,
            params["kernel"][::-1, ::-1],
            (1, 1),
            [(pad, pad)] * 2,
            lhs_dilation=(stride, stride),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + params["bias"]

    def both(apply):
        outputs, pull = jax.vjp(apply, params, x)
        return outputs, pull(jnp.cos(jnp.arange(outputs.size)).reshape(outputs.shape))

    found = jax.jit(lambda: both(lambda params, x: module.apply({"params": params}, x)))()
    assert found[0].shape == (2, 5 * stride, 4 * stride, 3)
    # Sums of at most 40 products, in another order.
    check = functools.partial(np.testing.assert_allclose, rtol=0, atol=2e-5)
    jax.tree.map(check, found, jax.jit(lambda: both(xla))())


def test_a_size_that_cannot_be_padded_equally_is_refused():
    with pytest.raises(ValueError, match="more by an even number"):
        Deconv(3, 3, 2).init(jax.random.key(0), jnp.zeros((1, 2, 2, 3)))


@pytest.mark.parametrize("stride", [2, 4])
def test_an_upsample_is_a_deconv_of_each_feature(stride):
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    module = Upsample(stride)
    kernel = jax.random.normal(jax.random.key(1), (2 * stride, 2 * stride, 1, 3))
    found = module.apply({"params": {"kernel": kernel}}, x)
    one = Deconv(1, 2 * stride, stride, bias=False)
    for i in range(3):
        params = {"kernel": kernel[..., i : i + 1]}
        expected = one.apply({"params": params}, x[..., i : i + 1])
        np.testing.assert_allclose(found[..., i : i + 1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("stride", [2, 4])
def test_an_upsample_starts_as_linear_interpolation(stride):
    """The same as an image that is resized linearly, but for the border."""
    x = jax.random.normal(jax.random.key(0), (1, 6, 5, 2))
    module = Upsample(stride)
    found = module.apply(module.init(jax.random.key(1), x), x)
    expected = jax.image.resize(x, (1, 6 * stride, 5 * stride, 2), "linear")
    inside = slice(stride, -stride)
    np.testing.assert_allclose(
        found[:, inside, inside], expected[:, inside, inside], rtol=0, atol=1e-6
    )
