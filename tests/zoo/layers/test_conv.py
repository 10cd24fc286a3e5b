import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import conv_layer

CASES = [
    {"dim": 5, "size": 1},
    {"dim": 5, "size": 1, "stride": 2},
    {"dim": 6, "size": 3, "stride": 2, "groups": 2},
    {"dim": 6, "size": 3, "dilation": 2, "bias": True},
    {"dim": 6, "size": 3, "groups": 6},
    {"dim": 6, "size": 5, "stride": 2, "groups": 6, "bias": True},
    {"dim": 6, "size": 3, "groups": 6, "dilation": 2},
    {"dim": 5, "size": 3, "stride": 2, "padding": "same"},
    {"dim": 6, "size": 5, "stride": 2, "groups": 6, "padding": "same"},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_xlas_convolution_and_its_gradient(case):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8 if "padding" in case else 7, 6))
    module = conv_layer(**case, dtype=jnp.float32, name="conv")
    params = module.init(jax.random.key(1), x)["params"]
    if case.get("bias"):
        params["bias"] += jnp.arange(params["bias"].size)
    pad, stride = case.get("dilation", 1) * (case["size"] // 2), case.get("stride", 1)

    def xla(params, x):
        y = jax.lax.conv_general_dilated(
            x,
            params["kernel"],
            (stride, stride),
            "SAME" if case.get("padding") == "same" else [(pad, pad)] * 2,
            rhs_dilation=(case.get("dilation", 1),) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=case.get("groups", 1),
        )
        return y + params.get("bias", 0)

    def both(apply):
        outputs, pull = jax.vjp(apply, params, x)
        return outputs, pull(jnp.cos(jnp.arange(outputs.size)).reshape(outputs.shape))

    found = jax.jit(lambda: both(lambda params, x: module.apply({"params": params}, x)))()
    # Sums of at most 126 products, in another order.
    check = functools.partial(np.testing.assert_allclose, rtol=0, atol=2e-5)
    jax.tree.map(check, found, jax.jit(lambda: both(xla))())


def test_branches_share_the_kernel_and_have_their_own_dilation():
    """Example i of the batch belongs to branch i modulo 3."""
    x = jax.random.normal(jax.random.key(0), (6, 9, 7, 4))
    options = {"stride": 2, "dtype": jnp.float32, "name": "conv"}
    module = conv_layer(5, 3, dilation=(1, 2, 3), **options)
    variables = module.init(jax.random.key(1), x)
    found = jax.jit(module.apply)(variables, x)
    for i, dilation in enumerate((1, 2, 3)):
        expected = conv_layer(5, 3, dilation=dilation, **options).apply(variables, x[i::3])
        np.testing.assert_allclose(found[i::3], expected, atol=1e-5)


def test_half_precision_is_summed_in_single():
    """As accurate as rounding the output: 25 equal terms of 1/3 would lose digits in bfloat16."""
    x = jnp.ones((1, 5, 5, 2), jnp.bfloat16)
    module = conv_layer(2, 5, groups=2, dtype=jnp.bfloat16, name="conv")
    kernel = jnp.full((5, 5, 1, 2), 1 / 3)
    y = module.apply({"params": {"kernel": kernel}}, x)
    assert y.dtype == jnp.bfloat16
    expected = 25 * float(jnp.bfloat16(1 / 3))
    np.testing.assert_allclose(np.float32(y[0, 2, 2]), expected, rtol=2**-8)
