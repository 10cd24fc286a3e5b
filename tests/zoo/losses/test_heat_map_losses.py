"""The focal loss of heat maps against the authors' formula, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.losses.heat_maps import gaussian_focal


def by_definition(logits, wanted, least):
    p = np.clip(1 / (1 + np.exp(-logits)), least, 1 - least)
    positive = -np.log(p) * (1 - p) ** 2
    negative = -np.log(1 - p) * p**2 * (1 - wanted) ** 4
    return np.where(wanted == 1, positive, negative)


def drawn():
    rng = np.random.default_rng(0)
    wanted = rng.uniform(0, 1, (2, 5, 6, 3))
    wanted[rng.random(wanted.shape) < 0.2] = 1
    return rng.normal(0, 5, wanted.shape), wanted


@pytest.mark.parametrize("least", [1e-4, 0.0])
def test_values(least):
    logits, wanted = drawn()
    found = gaussian_focal(
        jnp.asarray(logits, jnp.float32), jnp.asarray(wanted, jnp.float32), least=least
    )
    np.testing.assert_allclose(found, by_definition(logits, wanted, least), rtol=2e-5, atol=1e-7)


def test_gradients_are_finite_and_0_beyond_the_limits():
    logits = jnp.array([-200.0, -12.0, 0.5, 12.0, 200.0])
    for wanted in (jnp.ones(5), jnp.zeros(5), jnp.full(5, 0.9)):
        slopes = jax.grad(lambda x, y: gaussian_focal(x, y).sum())(logits, wanted)
        np.testing.assert_array_equal(slopes[jnp.array([0, 1, 3, 4])], 0)
        assert slopes[2] != 0
        free = jax.grad(lambda x, y: gaussian_focal(x, y, least=0.0).sum())(logits, wanted)
        assert np.isfinite(free).all()


def test_bf16_is_computed_in_float32():
    logits, wanted = drawn()
    rounded = jnp.asarray(logits, jnp.bfloat16)
    wanted = jnp.asarray(wanted, jnp.float32)
    found = gaussian_focal(rounded, wanted)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, gaussian_focal(rounded.astype(jnp.float32), wanted))
