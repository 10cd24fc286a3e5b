from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import zoo
from zoo.models.classification.resnet.model import Block, split
from zoo.registry import family_of
from zoo.types import IMAGENET_STD
from zoo.weights.choose import name_maps


def test_sizes_that_do_not_halve_are_rounded_up(golden):
    peer = golden("resnet_timm_basic_batch")  # images of 33 x 24 px
    maps = jax.eval_shape(
        partial(peer.model.apply, method="feature_maps"), peer.variables, peer.images
    )
    assert [m.shape[1:3] for m in maps] == [(9, 6), (5, 3), (3, 2), (2, 1)]


def test_frozen_equals_inference_and_learns_nothing(golden):
    peer = golden("resnet_timm_basic_batch")
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


def test_groups_need_bottlenecks():
    for fields in ({"num_groups": 2}, {"group_dim": 32}):
        model = zoo.create("resnet_nano", **fields)
        with pytest.raises(ValueError, match="only bottlenecks have groups"):
            jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


@pytest.mark.parametrize("source", ["detectron2", "mmdet"])
def test_images_of_detectron2_and_mmdet(source):
    """Not divided by standard deviations if the stride is in the 1 x 1 convolutions."""
    for fields, std in (({"stride_in_1x1": True}, (1 / 255,) * 3), ({}, IMAGENET_STD)):
        model = zoo.create("resnet50", **fields)
        how = name_maps(family_of(model), source)[0].preprocessing(model, "x.pkl")
        assert (how.size, how.std, how.interpolation) == ((224, 224), std, "bilinear")


def rates_of_drop_path(model, x):
    """The rate of each block, first to last."""
    found = []

    def record(run, args, kwargs, context):
        if isinstance(context.module, Block):
            found.append(context.module.drop_path)
        return run(*args, **kwargs)

    with nn.intercept_methods(record):
        jax.eval_shape(model.init, jax.random.key(0), x)
    return found


@pytest.mark.parametrize(("first", "dilated"), [(3, 0), (3, 1), (2, 2)])
def test_two_parts_compute_what_the_whole_does(first, dilated):
    """With the parameters' names, and the rates of drop path, which rise from block to block."""
    fields = {"num_blocks": (1, 2, 1, 2), "dilated_stages": dilated, "drop_path": 0.5}
    whole = zoo.create("resnet_nano", num_classes=0, **fields)
    body, make_last = split(whole, first)
    last = make_last()
    images = jax.random.normal(jax.random.key(0), (2, 40, 24, 3))
    variables = jax.jit(whole.init)(jax.random.key(1), images)

    def part(collection, *, of_last):
        late = tuple(f"stages_{i}_" for i in range(first, 4))
        return {name: x for name, x in collection.items() if name.startswith(late) == of_last}

    first_part = {c: part(x, of_last=False) for c, x in variables.items()}
    last_part = {c: part(x, of_last=True) for c, x in variables.items()}
    run = partial(jax.jit, static_argnames="method")
    maps = run(body.apply)(first_part, images, method="feature_maps")
    expected = run(whole.apply)(variables, images, method="feature_maps")
    assert len(maps) == first
    np.testing.assert_allclose(maps[-1], expected[first - 1], rtol=1e-5, atol=1e-5)
    found = run(last.apply)(last_part, maps[-1])
    np.testing.assert_allclose(found, expected[-1], rtol=1e-5, atol=1e-5)
    assert body.feature_strides == whole.feature_strides[:first]
    rates = rates_of_drop_path(body, images) + rates_of_drop_path(last, maps[-1])
    assert rates == pytest.approx(rates_of_drop_path(whole, images))
    assert rates[-1] == 0.5
