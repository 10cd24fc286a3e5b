import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import DropPath, Mlp, PatchEmbed


def test_drop_path_drops_whole_examples_and_keeps_the_mean():
    x = jnp.ones((20_000, 2, 3))
    y = DropPath(0.2).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1, :1], y.shape))
    assert set(np.unique(y)) == {0.0, np.float32(1.25)}
    assert abs(float(y.mean()) - 1) < 0.015  # 0.018 is five standard errors


@pytest.mark.parametrize(("rate", "train"), [(0.5, False), (0.0, True)])
def test_drop_path_off_is_the_identity(rate, train):
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(DropPath(rate).apply({}, x, train=train), x)


def test_mlp_equals_numpy():
    x = jax.random.normal(jax.random.key(1), (2, 3, 4))
    module = Mlp(mlp_dim=8, activation=jnp.tanh)
    variables = module.init(jax.random.key(0), x)
    first, second = (variables["params"][name] for name in ("fc1", "fc2"))
    hidden = np.tanh(x @ first["kernel"] + first["bias"])
    np.testing.assert_allclose(
        module.apply(variables, x), hidden @ second["kernel"] + second["bias"], atol=1e-6
    )


def test_mlp_dropout_keeps_the_mean():
    x = jnp.ones((1, 4))
    module = Mlp(mlp_dim=64, dropout=0.5)
    variables = module.init(jax.random.key(0), x)
    train = jax.vmap(lambda key: module.apply(variables, x, train=True, rngs={"dropout": key}))
    draws = train(jax.random.split(jax.random.key(1), 4000))
    tolerance = 5 * float(draws.std(0).max()) / 4000**0.5
    np.testing.assert_allclose(draws.mean(0), module.apply(variables, x), atol=tolerance)


def test_patch_embed_is_a_strided_convolution():
    images = jax.random.normal(jax.random.key(1), (2, 8, 12, 3))
    module = PatchEmbed(patch_size=4, hidden_dim=5)
    variables = module.init(jax.random.key(0), images)
    params = variables["params"]["proj"]
    expected = jax.lax.conv_general_dilated(
        images,
        params["kernel"].reshape(4, 4, 3, 5),
        (4, 4),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(
        module.apply(variables, images), expected.reshape(2, 6, 5) + params["bias"], atol=1e-5
    )
