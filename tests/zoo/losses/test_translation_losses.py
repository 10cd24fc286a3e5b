import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zoo.losses.translation import token_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_optax_on_whole_targets(smoothing):
    logits = 3 * jax.random.normal(jax.random.key(0), (2, 5, 7))
    targets = jax.random.randint(jax.random.key(1), (2, 5), 0, 7)
    whole = optax.smooth_labels(jax.nn.one_hot(targets, 7), smoothing)
    expected = optax.softmax_cross_entropy(logits, whole)
    found = token_cross_entropy(logits, targets, smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    half = token_cross_entropy(logits.astype(jnp.bfloat16), targets, smoothing)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, expected, rtol=0.03, atol=0.03)
