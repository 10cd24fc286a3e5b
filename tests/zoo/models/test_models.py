"""What holds for every registered model."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zoo
from zoo.types import Preprocessing
from zoo.weights.tree import flatten

COUNTS = Path(__file__).parents[2] / "golden" / "parameter_counts.json"
NANO = zoo.list_models("*nano*")
TRANSFORMERS = zoo.list_models("vit*") + zoo.list_models("mixer*")


def traced(name):
    """Abstract logits and variables of two images of the model's size, tokens captured."""
    model = zoo.create(name)
    images = jax.ShapeDtypeStruct((2, *zoo.preprocessing(name).size, 3), jnp.float32)
    init = functools.partial(
        model.init_with_output,
        mutable=True,
        capture_intermediates=lambda _, method: method == "tokens",
    )
    return jax.eval_shape(init, jax.random.key(0), images)


def drawn_images(name, count=4):
    size = zoo.preprocessing(name).size
    return jax.random.normal(jax.random.key(5), (count, *size, 3))


@pytest.fixture(scope="module", params=NANO)
def nano(request):
    """A small model with every parameter drawn, heads included, and a batch for it."""
    model = zoo.create(request.param, num_classes=10)
    images = drawn_images(request.param)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(1)
    drawn = [jnp.float32(rng.normal(leaf, 0.1)) for leaf in leaves]
    return request.param, model, jax.tree.unflatten(tree, drawn), images


@pytest.mark.parametrize("name", zoo.list_models())
def test_parameter_count_and_shapes(name):
    expected = json.loads(COUNTS.read_text())
    assert name in expected, f"{name} has no golden: add it to tests/golden/make_golden.py"
    logits, variables = traced(name)
    leaves = jax.tree.leaves(variables["params"])
    assert sum(leaf.size for leaf in leaves) == expected[name]
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert (logits.shape, logits.dtype) == ((2, 1000), jnp.float32)
    if name in TRANSFORMERS:
        check_tokens(name, flatten(variables["intermediates"]))


def check_tokens(name, state):
    """Shapes of the tokens and of each block's attention maps."""
    model = zoo.create(name)
    height, width = zoo.preprocessing(name).size
    count = height // model.patch_size * (width // model.patch_size)
    count += getattr(model, "class_token", False)
    (tokens,) = state.pop("tokens")
    assert tokens.shape == (2, count, model.hidden_dim)
    heads = [model.num_heads] * model.num_layers if name.startswith("vit") else []
    assert [maps.shape for (maps,) in state.values()] == [(2, n, count, count) for n in heads]


@pytest.mark.parametrize("name", zoo.list_models())
def test_preprocessing_is_timms(name):
    golden = json.loads((COUNTS.parent / "preprocessing.json").read_text())
    if name not in golden:
        assert "nano" in name or name == "mixer_h14_224"  # timm does not have them
        return
    height, width, mean, std, interpolation, crop = golden[name]
    assert zoo.preprocessing(name) == Preprocessing(
        (height, width), tuple(mean), tuple(std), interpolation, crop
    )


def test_every_counted_model_is_registered():
    assert sorted(json.loads(COUNTS.read_text())) == zoo.list_models()


@pytest.mark.parametrize("name", zoo.list_models())
def test_feature_map_shapes(name):
    shallow = {"num_layers": 1} if name in TRANSFORMERS else {}  # all layers have one shape
    model = zoo.create(name, **shallow)
    height, width = zoo.preprocessing(name).size
    images = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    init = functools.partial(model.init_with_output, method="feature_maps")
    maps, _ = jax.eval_shape(init, jax.random.key(0), images)
    strides = model.feature_strides
    assert [m.shape[:3] for m in maps] == [(2, height // s, width // s) for s in strides]
    assert list(strides) == sorted(strides)


@pytest.mark.parametrize("name", NANO)
def test_training_moves_every_parameter(name):
    model = zoo.create(name, num_classes=10)
    images, labels = drawn_images(name), jnp.arange(4)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    optimiser = optax.sgd(0.1)

    @jax.jit
    def step(params, state, rest):
        def loss(params):
            logits, updates = model.apply(
                {"params": params, **rest}, images, train=True, mutable=list(rest)
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), updates

        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimiser.update(grads, state)
        return optax.apply_updates(params, updates), state, rest, value

    params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    state, losses = optimiser.init(params), []
    for _ in range(3):  # the head starts at zero: the first step moves nothing but the head
        params, state, rest, value = step(params, state, rest)
        losses.append(float(value))
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), variables, {"params": params, **rest})
    still = [
        jax.tree_util.keystr(p) for p, m in jax.tree_util.tree_leaves_with_path(moved) if not m
    ]
    assert still == []
    assert losses[-1] < losses[0]


def test_jit_equals_eager(nano):
    _, model, variables, images = nano
    eager = model.apply(variables, images)
    np.testing.assert_allclose(jax.jit(model.apply)(variables, images), eager, rtol=1e-4, atol=1e-4)


def test_second_call_does_not_compile(nano):
    _, model, variables, images = nano
    apply = jax.jit(model.apply)
    apply(variables, images)
    apply(variables, images + 1)
    assert apply._cache_size() == 1


def test_batch_of_one_equals_batched(nano):
    _, model, variables, images = nano
    apply = jax.jit(model.apply)
    single = np.concatenate([apply(variables, images[i : i + 1]) for i in range(len(images))])
    np.testing.assert_allclose(apply(variables, images), single, rtol=1e-4, atol=1e-4)


def test_bf16_is_finite_and_near(nano):
    name, model, variables, images = nano
    half = zoo.create(name, num_classes=10, dtype=jnp.bfloat16)
    logits = jax.jit(half.apply)(variables, images)
    assert logits.dtype == jnp.float32
    exact = jax.jit(model.apply)(variables, images)
    assert np.abs(logits - exact).max() < 0.05 * np.abs(exact).max()


def test_zero_classes_give_features(nano):
    name, model, variables, images = nano
    features = zoo.create(name, num_classes=0)
    params = {k: v for k, v in variables["params"].items() if k != "head"}
    x = jax.jit(features.apply)({**variables, "params": params}, images)
    head = variables["params"]["head"]
    logits = x @ head["kernel"] + head["bias"]
    expected = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_inference_needs_no_rngs(nano):
    name, model, variables, images = nano
    dropping = zoo.create(name, num_classes=10, drop_path=0.5)
    plain = jax.jit(model.apply)(variables, images)
    np.testing.assert_array_equal(jax.jit(dropping.apply)(variables, images), plain)
    with pytest.raises(Exception, match="dropout"):
        jax.eval_shape(
            functools.partial(dropping.apply, train=True, mutable=["batch_stats"]),
            variables,
            images,
        )
