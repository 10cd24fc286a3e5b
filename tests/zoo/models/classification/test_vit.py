import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo


def test_feature_map_is_the_tokens_in_place(golden):
    peer = golden("vit_timm_wide")
    (map_,) = peer.model.apply(peer.variables, peer.images, method="feature_maps")
    assert map_.shape == (3, 4, 6, 16)
    np.testing.assert_allclose(map_[:, 2, 5], peer.tokens[:, 1 + 2 * 6 + 5], atol=1e-5)


def test_attention_maps_sum_to_one_and_change_nothing(golden):
    peer = golden("vit_timm_token")
    logits, state = peer.model.apply(peer.variables, peer.images, mutable=["intermediates"])
    np.testing.assert_allclose(logits, peer.logits, atol=1e-5)
    for i in range(2):
        (map_,) = state["intermediates"][f"blocks_{i}"]["attn"]["attention"]
        assert map_.shape == (3, 2, 17, 17)
        np.testing.assert_allclose(map_.sum(-1), 1, rtol=1e-5)
        assert np.std(map_) > 1e-3


def test_sincos_positions_need_no_parameters():
    model = zoo.create("vit_nano_patch4_32", positions="sincos2d", pool="mean", class_token=False)
    params = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    assert "pos_embed" not in params
    moved = model.apply({"params": params}, jnp.ones((1, 16, 48, 3)), method="tokens")
    assert moved.shape == (1, 48, 64)
    assert np.std(moved, axis=1).mean() > 1e-3  # equal patches have different positions


def test_representation_is_bounded():
    model = zoo.create("vit_nano_patch4_32", representation_dim=8, num_classes=0)
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    features, variables = model.init_with_output(jax.random.key(0), images)
    assert variables["params"]["representation"]["kernel"].shape == (64, 8)
    assert features.shape == (2, 8)
    assert np.abs(features).max() <= 1


def test_image_of_part_patches():
    with pytest.raises(ValueError, match=r"image of 30 x 32 px does not divide into .* 4 x 4 px"):
        zoo.create("vit_nano_patch4_32").init(jax.random.key(0), jnp.zeros((1, 30, 32, 3)))


def test_token_pool_without_class_token():
    with pytest.raises(ValueError, match="pool='token' needs class_token=True"):
        zoo.create("vit_nano_patch4_32", class_token=False).init(
            jax.random.key(0), jnp.zeros((1, 32, 32, 3))
        )


def test_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="64 features do not divide into 3 heads"):
        zoo.create("vit_nano_patch4_32").clone(num_heads=3).init(
            jax.random.key(0), jnp.zeros((1, 32, 32, 3))
        )


def test_batch_norm_before_the_head_takes_the_scale_of_the_features_away():
    fields = {"num_layers": 1, "head_batch_norm": True, "num_classes": 3}
    model = zoo.create("vit_nano_patch4_32", **fields)
    images = jax.random.normal(jax.random.key(0), (16, 8, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    assert "head_norm" not in variables["params"]  # it has no scale and no bias
    assert np.std(variables["params"]["head"]["kernel"]) > 0.005
    features = model.clone(num_classes=0).apply(variables, images)
    logits, changed = jax.jit(
        lambda v: model.apply(v, images, train=True, mutable=["batch_stats"])
    )(variables)
    x = (features - features.mean(axis=0)) / np.sqrt(features.var(axis=0) + 1e-6)
    head = variables["params"]["head"]
    np.testing.assert_allclose(logits, x @ head["kernel"] + head["bias"], atol=1e-4)
    stats = changed["batch_stats"]["head_norm"]
    np.testing.assert_allclose(stats["mean"], 0.1 * features.mean(axis=0), rtol=1e-3, atol=1e-5)
