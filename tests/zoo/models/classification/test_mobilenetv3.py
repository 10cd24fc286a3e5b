from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from zoo.models.classification.parts.inverted_residual import (
    InvertedResidual,
    SqueezeExcite,
    round_dim,
)


def test_maps_are_the_last_of_each_stride():
    model = zoo.create("mobilenetv3_large_100")
    shapes = partial(jax.eval_shape, partial(model.init_with_output, method="feature_maps"))
    maps, variables = shapes(jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32))
    sizes = [(1, 16, 24, 24), (1, 8, 12, 40), (1, 4, 6, 112), (1, 2, 3, 960)]
    assert [x.shape for x in maps] == sizes
    assert model.feature_strides == (4, 8, 16, 32)
    assert not {"head", "hidden"} & set(variables["params"])
    small = zoo.create("mobilenetv3_small_100")
    assert small.feature_strides == (4, 8, 16, 32)


def test_blocks_after_the_last_map_are_not_made():
    model = zoo.create("mobilenetv3_large_100", map_blocks=(2, 12))
    assert model.feature_strides == (4, 32)
    init = partial(model.init, method="feature_maps")
    variables = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    blocks = {f"blocks_{i}" for i in range(13)}
    assert set(variables["params"]) == {"stem_conv", "stem_norm", *blocks}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strides": (1, 2)}, "a number for each block; they have 15, 15, 15, 2"),
        ({"map_blocks": (3, 16)}, r"map_blocks \(3, 16\) are not in 0..15"),
    ],
)
def test_fields_that_do_not_go_together(fields, message):
    model = zoo.create("mobilenetv3_large_100", **fields)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_squeeze_and_excitation_equals_numpy():
    x = 3 * jax.random.normal(jax.random.key(0), (2, 3, 4, 16))
    module = SqueezeExcite(8)
    variables = module.init(jax.random.key(1), x)
    reduce, expand = (variables["params"][name]["kernel"] for name in ("reduce", "expand"))
    hidden = np.maximum(np.mean(x, axis=(1, 2)) @ reduce, 0)
    scale = np.clip((hidden @ expand + 3) / 6, 0, 1)
    assert 0 < scale.min() and scale.max() > 0.5 > scale.min()
    expected = np.asarray(x) * scale[:, None, None]
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5)


def test_squeezed_features():
    """Those of the paper's blocks, as timm's and torchvision's functions give them."""
    expected = {16: 8, 72: 24, 96: 24, 120: 32, 144: 40, 240: 64, 288: 72, 480: 120, 576: 144}
    expected |= {672: 168, 960: 240, 8: 8, 40: 16}
    assert {dim: round_dim(dim // 4) for dim in expected} == expected


def test_drop_path_drops_the_branch_of_an_example():
    x = jax.random.normal(jax.random.key(0), (64, 2, 2, 8))
    block = InvertedResidual(16, 8, 3, 1, activation="hard_swish", norm="group", drop_path=0.5)
    variables = block.init(jax.random.key(1), x)
    kept = block.apply(variables, x).output
    y = block.apply(variables, x, train=True, rngs={"dropout": jax.random.key(2)}).output
    dropped = np.asarray((y == x).all(axis=(1, 2, 3)))
    assert 16 < dropped.sum() < 48  # four standard deviations
    np.testing.assert_allclose(y[~dropped], (x + 2 * (kept - x))[~dropped], atol=1e-5)
