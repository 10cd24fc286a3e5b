"""What holds for every registered model, and for every image classifier."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zoo
from tests.zoo.models.inputs import (
    WITHOUT_GRADIENT,
    abstract_inputs,
    float_outputs,
    model_inputs,
)
from zoo.types import Preprocessing
from zoo.weights.tree import flatten

COUNTS = Path(__file__).parents[2] / "golden" / "parameter_counts.json"
ALL_NANO = zoo.list_models("*nano*")
TRANSFORMERS = zoo.list_models("vit*") + zoo.list_models("mixer*")
CLASSIFIERS = sorted(
    name
    for name in zoo.list_models()
    if type(zoo.create(name)).__name__ in ("ViT", "MlpMixer", "ResNet")
)
NANO = sorted(set(ALL_NANO) & set(CLASSIFIERS))
STREAMS = {"dropout": jax.random.key(7), "mask": jax.random.key(8)}


def drawn(name, **fields):
    """A small model with every parameter drawn, heads included, and a batch of four for it."""
    model = zoo.create(name, **fields)
    inputs = model_inputs(name, model, 4)
    variables = jax.jit(model.init)({"params": jax.random.key(0), **STREAMS}, *inputs)
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(1)
    leaves = [jnp.float32(rng.normal(leaf, 0.1)) for leaf in leaves]
    return name, model, jax.tree.unflatten(tree, leaves), inputs


@pytest.fixture(scope="module", params=ALL_NANO)
def nano(request):
    return drawn(request.param)


@pytest.fixture(scope="module", params=NANO)
def classifier(request):
    return drawn(request.param, num_classes=10)


def call(model, variables, *inputs, **options):
    """The floating-point outputs, the same random streams every time."""
    return float_outputs(model.apply(variables, *inputs, rngs=STREAMS, **options))


def assert_close(actual, expected, tolerance):
    """Each output within `tolerance` of the largest of its expected values."""
    for a, b in zip(actual, expected, strict=True):
        scale = max(float(np.abs(b).max()), 1.0)
        np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", zoo.list_models())
def test_parameter_count(name):
    expected = json.loads(COUNTS.read_text())
    assert name in expected, f"{name} has no golden: add it to tests/golden/make_golden.py"
    model = zoo.create(name)
    variables = jax.eval_shape(
        model.init, {"params": jax.random.key(0), **STREAMS}, *abstract_inputs(name, model, 2)
    )
    leaves = jax.tree.leaves(variables["params"])
    assert sum(leaf.size for leaf in leaves) == expected[name]
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_shapes(name):
    model = zoo.create(name)
    init = functools.partial(
        model.init_with_output,
        mutable=True,
        capture_intermediates=lambda _, method: method == "tokens",
    )
    images = abstract_inputs(name, model, 2)
    logits, variables = jax.eval_shape(init, jax.random.key(0), *images)
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


@pytest.mark.parametrize("name", CLASSIFIERS)
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


@pytest.mark.parametrize("name", CLASSIFIERS)
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


@pytest.mark.parametrize("name", ALL_NANO)
def test_training_moves_every_parameter(name):
    model = zoo.create(name)
    inputs = model_inputs(name, model, 4)
    variables = jax.jit(model.init)({"params": jax.random.key(0), **STREAMS}, *inputs)
    optimiser = optax.adam(1e-3)  # moves by its rate wherever there is a gradient

    @jax.jit
    def step(params, state, rest):
        def loss(params):
            outputs, updates = model.apply(
                {"params": params, **rest}, *inputs, train=True, mutable=list(rest), rngs=STREAMS
            )
            targets = jnp.cos(jnp.arange(1.0, 1000.0))  # of any shape, nothing symmetric
            errors = [x - jnp.resize(targets, x.shape) for x in float_outputs(outputs)]
            return sum(jnp.mean(error**2) for error in errors), updates

        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimiser.update(grads, state)
        return optax.apply_updates(params, updates), state, rest, value

    params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    state, losses = optimiser.init(params), []
    for _ in range(3):  # heads start at zero: the first step moves nothing but the heads
        params, state, rest, value = step(params, state, rest)
        losses.append(float(value))
    variables.pop("fixed", None)  # tables that are not trained
    rest.pop("fixed", None)
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), variables, {"params": params, **rest})
    still = [
        jax.tree_util.keystr(p) for p, m in jax.tree_util.tree_leaves_with_path(moved) if not m
    ]
    assert still == WITHOUT_GRADIENT.get(type(model).__name__, [])
    assert losses[-1] < losses[0]


def test_jit_equals_eager(nano):
    _, model, variables, inputs = nano
    eager = call(model, variables, *inputs)
    jitted = float_outputs(
        jax.jit(functools.partial(model.apply, rngs=STREAMS))(variables, *inputs)
    )
    assert_close(jitted, eager, 1e-4)


def test_second_call_does_not_compile(nano):
    _, model, variables, inputs = nano
    apply = jax.jit(functools.partial(model.apply, rngs=STREAMS))
    apply(variables, *inputs)
    apply(variables, *(jax.tree.map(lambda x: x[::-1], x) for x in inputs))
    assert apply._cache_size() == 1


def test_batch_of_one_equals_batched(nano):
    _, model, variables, inputs = nano
    apply = jax.jit(functools.partial(call, model))
    singles = [apply(variables, *(x[i : i + 1] for x in inputs)) for i in range(4)]
    batched = apply(variables, *inputs)
    for whole, *parts in zip(batched, *singles, strict=True):
        changes = np.not_equal(whole.shape, parts[0].shape)  # true of the batch's axis alone
        joined = np.concatenate(parts, axis=int(changes.argmax()))
        assert_close([whole], [joined], 1e-4)


def test_bf16_is_finite_and_near(nano):
    _, model, variables, inputs = nano
    half = model.clone(dtype=jnp.bfloat16)
    outputs = jax.jit(functools.partial(call, half))(variables, *inputs)
    assert {x.dtype for x in outputs} == {jnp.dtype("float32")}
    assert_close(outputs, jax.jit(functools.partial(call, model))(variables, *inputs), 0.05)


def test_zero_classes_give_features(classifier):
    name, model, variables, (images,) = classifier
    features = zoo.create(name, num_classes=0)
    params = {k: v for k, v in variables["params"].items() if k != "head"}
    x = jax.jit(features.apply)({**variables, "params": params}, images)
    head = variables["params"]["head"]
    logits = x @ head["kernel"] + head["bias"]
    expected = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_inference_needs_no_rngs(classifier):
    name, model, variables, (images,) = classifier
    dropping = zoo.create(name, num_classes=10, drop_path=0.5)
    plain = jax.jit(model.apply)(variables, images)
    np.testing.assert_array_equal(jax.jit(dropping.apply)(variables, images), plain)
    with pytest.raises(Exception, match="dropout"):
        jax.eval_shape(
            functools.partial(dropping.apply, train=True, mutable=["batch_stats"]),
            variables,
            images,
        )
