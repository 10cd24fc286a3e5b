from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo


@pytest.mark.parametrize("case", ["basic_batch", "bottleneck_batch", "basic_group"])
def test_equals_timm(golden, case):
    peer = golden(f"timm_resnet_{case}")
    variables, scale = peer.variables, np.abs(peer.logits).max()
    logits = jax.jit(peer.model.apply)(variables, peer.images)
    np.testing.assert_allclose(logits, peer.logits, atol=1e-5 * scale)
    maps = jax.jit(partial(peer.model.apply, method="feature_maps"))(variables, peer.images)
    np.testing.assert_allclose(maps[-1], peer.tokens, atol=1e-5 * np.abs(peer.tokens).max())
    sizes = [m.shape[1:3] for m in maps]  # of 33 x 24 px: halves are rounded up
    assert sizes == [(9, 6), (5, 3), (3, 2), (2, 1)]


def test_frozen_equals_inference_and_learns_nothing(golden):
    peer = golden("timm_resnet_basic_batch")
    frozen = zoo.create(peer.name, **{**peer.fields, "norm": "frozen"})
    variables = peer.variables

    def loss(params):
        logits, updates = frozen.apply(
            {**variables, "params": params}, peer.images, train=True, mutable=["batch_stats"]
        )
        return (logits**2).sum(), (logits, updates)

    grads, (logits, updates) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    np.testing.assert_allclose(logits, peer.logits, rtol=1e-4, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], variables["batch_stats"])
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert bool(jnp.any(grad != 0)) != ("norm" in jax.tree_util.keystr(path))


def test_training_moves_the_statistics_by_a_tenth():
    model = zoo.create("resnet_nano")
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3)) + 1
    variables = jax.jit(model.init)(jax.random.key(1), images)
    _, updates = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables, images
    )
    kernel = variables["params"]["stem_conv"]["kernel"]
    x = jax.lax.conv_general_dilated(
        images, kernel, (2, 2), [(3, 3), (3, 3)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    stats = updates["batch_stats"]["stem_norm"]
    np.testing.assert_allclose(stats["mean"], 0.1 * x.mean((0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * x.var((0, 1, 2)), rtol=1e-3)


def test_a_new_block_is_the_identity():
    model = zoo.create("resnet_nano")
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    for stage in range(4):
        scale = variables["params"][f"stages_{stage}_0"]["norm2"]["scale"]
        np.testing.assert_array_equal(scale, 0)


def test_group_norm_has_no_statistics():
    model = zoo.create("resnet50_gn", num_blocks=(1, 1, 1, 1))
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    assert set(variables) == {"params"}
