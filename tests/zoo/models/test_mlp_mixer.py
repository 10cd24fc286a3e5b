import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo


def test_equals_timm(golden):
    peer = golden("timm_mixer")
    variables = peer.variables
    np.testing.assert_allclose(peer.model.apply(variables, peer.images), peer.logits, atol=1e-5)
    tokens = peer.model.apply(variables, peer.images, method="tokens")
    np.testing.assert_allclose(tokens, peer.tokens, atol=1e-5)
    (map_,) = peer.model.apply(variables, peer.images, method="feature_maps")
    np.testing.assert_allclose(map_.reshape(tokens.shape), tokens)


def test_non_square_images():
    model = zoo.create("mixer_nano_patch4_32", image_size=(16, 24), num_classes=3)
    images = jnp.ones((2, 16, 24, 3))
    logits, variables = model.init_with_output(jax.random.key(0), images)
    assert logits.shape == (2, 3)
    (map_,) = model.apply(variables, images, method="feature_maps")
    assert map_.shape == (2, 4, 6, 64)


def test_another_size_is_an_error():
    model = zoo.create("mixer_nano_patch4_32")
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    with pytest.raises(ValueError, match=r"image_size=32, but the images are 16 x 64 px"):
        model.apply(variables, jnp.zeros((1, 16, 64, 3)))
