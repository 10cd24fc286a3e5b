import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.special

from zoo.losses.classification import sigmoid_cross_entropy, softmax_cross_entropy

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(size=(6, 4)) * 3, jnp.float32)
TARGETS = jnp.asarray(RNG.dirichlet(np.ones(4), size=6), jnp.float32)


def test_softmax_is_optaxs_and_scales_with_the_target():
    losses = softmax_cross_entropy(LOGITS, TARGETS)
    np.testing.assert_allclose(losses, optax.softmax_cross_entropy(LOGITS, TARGETS), rtol=1e-6)
    np.testing.assert_allclose(
        softmax_cross_entropy(LOGITS, 0.3 * TARGETS), 0.3 * losses, rtol=1e-6
    )
    assert (softmax_cross_entropy(LOGITS, 0 * TARGETS) == 0).all()


def test_sigmoid_is_the_definition():
    p = scipy.special.expit(np.asarray(LOGITS, np.float64))
    expected = -(TARGETS * np.log(p) + (1 - TARGETS) * np.log(1 - p)).sum(axis=1)
    np.testing.assert_allclose(sigmoid_cross_entropy(LOGITS, TARGETS), expected, rtol=1e-5)
    assert (sigmoid_cross_entropy(LOGITS, 0 * TARGETS) == 0).all()
    half = sigmoid_cross_entropy(LOGITS, 0.5 * TARGETS)
    expected = -(TARGETS / 2 * np.log(p) + (1 - TARGETS / 2) * np.log(1 - p)).sum(axis=1) / 2
    np.testing.assert_allclose(half, expected, rtol=1e-5)


def test_no_example_has_no_gradient_and_half_precision_is_computed_in_float32():
    for loss in (softmax_cross_entropy, sigmoid_cross_entropy):
        gradient = jax.grad(lambda x, loss=loss: loss(x, 0 * TARGETS).sum())(LOGITS)
        assert (gradient == 0).all()
        assert loss(LOGITS.astype(jnp.bfloat16), TARGETS).dtype == jnp.float32
