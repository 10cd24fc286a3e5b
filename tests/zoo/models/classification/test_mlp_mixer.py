import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo


def test_the_feature_map_is_the_tokens_in_place(golden):
    peer = golden("mlp_mixer_timm")
    (map_,) = peer.model.apply(peer.variables, peer.images, method="feature_maps")
    np.testing.assert_allclose(map_.reshape(peer.tokens.shape), peer.tokens, atol=1e-5)


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
