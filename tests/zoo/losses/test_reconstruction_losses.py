import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.losses.reconstruction import patch_errors, patch_statistics, reconstruction_loss


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    predicted, patches = rng.normal(size=(2, 3, 6, 12)).astype(np.float32)
    visible = np.arange(6) < 2
    return predicted, patches * 3 + 1, np.stack([rng.permuted(visible) for _ in range(3)])


def by_hand(predicted, patches, visible, norm_pix_loss):
    """The loss, computed in float64, patch by patch."""
    losses = []
    for image, row in zip(zip(predicted, patches, strict=True), visible, strict=True):
        for guess, patch, seen in zip(*image, row, strict=True):
            target = np.float64(patch)
            if norm_pix_loss:
                variance = ((target - target.mean()) ** 2).sum() / (target.size - 1)
                target = (target - target.mean()) / np.sqrt(variance + 1e-6)
            if not seen:
                losses.append(((guess - target) ** 2).mean())
    return np.mean(losses)


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_equals_a_loop(drawn, norm_pix_loss):
    arrays = [jnp.asarray(x) for x in drawn]
    found = jax.jit(reconstruction_loss, static_argnames="norm_pix_loss")(
        *arrays, norm_pix_loss=norm_pix_loss
    )
    np.testing.assert_allclose(found, by_hand(*drawn, norm_pix_loss), rtol=1e-5)


def test_visible_patches_have_no_gradient(drawn):
    predicted, patches, visible = map(jnp.asarray, drawn)
    grads = jax.grad(lambda x: reconstruction_loss(x, patches, visible, norm_pix_loss=True))(
        predicted
    )
    assert not grads[visible].any()
    assert grads[~visible].all()


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_flat_patches_and_nothing_hidden_are_finite(norm_pix_loss):
    flat = jnp.full((1, 2, 12), 0.3)
    hidden = jnp.zeros((1, 2), bool)
    loss, grad = jax.value_and_grad(
        lambda x: reconstruction_loss(x, flat, hidden, norm_pix_loss=norm_pix_loss)
    )(flat + 1)
    np.testing.assert_allclose(loss, 1.69 if norm_pix_loss else 1.0, rtol=1e-3)
    assert jnp.isfinite(grad).all()
    assert reconstruction_loss(flat, flat, ~hidden, norm_pix_loss=norm_pix_loss) == 0


def test_half_precision_is_computed_in_float32(drawn):
    predicted, patches, _ = drawn
    errors = patch_errors(
        jnp.asarray(predicted, jnp.bfloat16), jnp.asarray(patches), norm_pix_loss=True
    )
    assert errors.dtype == jnp.float32
    exact = patch_errors(jnp.asarray(predicted), jnp.asarray(patches), norm_pix_loss=True)
    np.testing.assert_allclose(errors, exact, rtol=0.02)


def test_statistics_are_of_each_patch(drawn):
    patches = drawn[1]
    mean, deviation = patch_statistics(jnp.asarray(patches))
    np.testing.assert_allclose(mean[:, :, 0], patches.mean(-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(deviation[:, :, 0], patches.std(-1, ddof=1), rtol=1e-4)
