import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import MultiHeadAttention
from zoo.layers.attention import _attend, _kernel


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    queries, keys = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 7, 6))
    return jnp.float32(queries), jnp.float32(keys)


def by_hand(params, queries, keys, mask):
    """Attention with two heads, computed in numpy in float64."""

    def heads(name, x):
        y = x @ np.float64(params[name]["kernel"]) + np.float64(params[name]["bias"])
        return y.reshape(*y.shape[:2], 2, 4).transpose(0, 2, 1, 3)

    q, k, v = heads("query", queries), heads("key", keys), heads("value", keys)
    logits = np.where(mask, q @ k.swapaxes(-1, -2) / 2, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    x = (weights @ v).transpose(0, 2, 1, 3).reshape(queries.shape)
    return x @ np.float64(params["out"]["kernel"]) + np.float64(params["out"]["bias"]), weights


@pytest.mark.parametrize("masked", [False, True])
def test_equals_numpy_in_both_paths(drawn, masked):
    queries, keys = drawn
    share = 0.6 if masked else 1.0
    mask = np.random.default_rng(1).random((2, 1, 5, 7)) < share
    mask = jnp.asarray(mask | (np.arange(7) == 0))  # every query sees at least one key
    module = MultiHeadAttention(num_heads=2)
    variables = module.init(jax.random.key(0), queries, keys, mask=mask)
    expected, maps = by_hand(variables["params"], queries, keys, mask)
    fused = module.apply(variables, queries, keys, mask=mask)
    np.testing.assert_allclose(fused, expected, atol=1e-5)
    sown, state = module.apply(variables, queries, keys, mask=mask, mutable=["intermediates"])
    np.testing.assert_allclose(sown, expected, atol=1e-5)
    (weights,) = state["intermediates"]["attention"]
    np.testing.assert_allclose(weights, maps, atol=1e-6)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_masked_keys_do_not_matter(drawn):
    queries, keys = drawn
    mask = jnp.arange(7)[None, None, None] < 4
    module = MultiHeadAttention(num_heads=2)
    variables = module.init(jax.random.key(0), queries, keys)
    x = module.apply(variables, queries, keys, mask=mask)
    changed = module.apply(variables, queries, keys.at[:, 4:].set(1e3), mask=mask)
    np.testing.assert_array_equal(x, changed)
    np.testing.assert_allclose(x, module.apply(variables, queries, keys[:, :4]), atol=1e-6)


@pytest.mark.parametrize("mutable", [False, ["intermediates"]])
def test_query_without_keys_gets_the_mean(drawn, mutable):
    queries, keys = drawn
    module = MultiHeadAttention(num_heads=2)
    variables = module.init(jax.random.key(0), queries, keys)
    run = jax.jit(lambda mask: module.apply(variables, queries, keys, mask=mask, mutable=mutable))
    x = run(jnp.zeros((1, 1, 1, 7), bool))
    x = x[0] if mutable else x
    values = keys @ variables["params"]["value"]["kernel"] + variables["params"]["value"]["bias"]
    out = variables["params"]["out"]
    mean = values.mean(1, keepdims=True) @ out["kernel"] + out["bias"]
    np.testing.assert_allclose(x, jnp.broadcast_to(mean, x.shape), atol=1e-5)


def test_gradients_of_both_paths_agree(drawn):
    queries, _ = drawn
    module = MultiHeadAttention(num_heads=2)
    variables = module.init(jax.random.key(0), queries)
    fused = jax.grad(lambda v: (module.apply(v, queries) ** 2).sum())(variables)
    sown = jax.grad(lambda v: (module.apply(v, queries, mutable=["intermediates"])[0] ** 2).sum())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), fused, sown(variables)
    )


def test_dropout_keeps_the_mean(drawn):
    queries, keys = drawn
    module = MultiHeadAttention(num_heads=2, dropout=0.3)
    variables = module.init(jax.random.key(0), queries, keys)
    train = jax.jit(
        lambda key: module.apply(variables, queries, keys, train=True, rngs={"dropout": key})
    )
    draws = jax.lax.map(train, jax.random.split(jax.random.key(1), 4000))
    expected = module.apply(variables, queries, keys)
    assert jnp.std(draws, axis=0).min() > 0.01
    np.testing.assert_allclose(draws.mean(0), expected, atol=5 * float(draws.std(0).max()) / 63)


@pytest.mark.parametrize(
    ("platform", "dtype", "width", "masked", "kernel"),
    [
        ("gpu", "bfloat16", 64, False, "cudnn"),
        ("gpu", "float16", 128, False, "cudnn"),
        ("gpu", "float32", 64, False, "xla"),
        ("gpu", "bfloat16", 60, False, "xla"),
        ("gpu", "bfloat16", 136, False, "xla"),
        ("gpu", "bfloat16", 64, True, "xla"),
        ("cpu", "bfloat16", 64, False, "xla"),
        ("tpu", "bfloat16", 64, False, "xla"),
    ],
)
def test_cudnn_is_taken_where_it_applies(platform, dtype, width, masked, kernel):
    assert _kernel(platform, dtype, width, masked=masked) == kernel


def test_a_kernel_that_is_not_there_is_replaced(drawn):
    queries, _ = drawn
    q = queries.reshape(2, 5, 1, 8).astype(jnp.bfloat16)
    expected = _attend(q, q, q, None, "xla")
    np.testing.assert_array_equal(_attend(q, q, q, None, "cudnn"), expected)  # a CPU has no cuDNN
