"""Tests of every family of models, of every classifier, and of every backbone."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zoo
from tests.zoo.models.drawn import (
    abstract_inputs,
    drawn_inputs,
    float_outputs,
    shallow,
    speed_of,
    speed_of_shapes,
    speed_of_training,
)
from zoo.family import Family
from zoo.registry import BACKBONES, FAMILIES, MODELS, family_of
from zoo.types import Preprocessing
from zoo.weights.tree import flatten

COUNTS = Path(__file__).parents[2] / "golden" / "parameter_counts.json"
NANO = [name for name in MODELS if "nano" in name]
MARKED = [pytest.param(name, marks=speed_of(MODELS[name])) for name in NANO]
CLASSIFIERS = [name for name, family in MODELS.items() if family.task == "classification"]
NANO_CLASSIFIERS = [name for name in NANO if name in CLASSIFIERS]
RANDOM_FIELDS = ("drop_path", "dropout")
RANDOM = [n for n in NANO_CLASSIFIERS if not MODELS[n].field_names().isdisjoint(RANDOM_FIELDS)]
STREAMS = {name: jax.random.key(i) for i, name in enumerate(("dropout", "mask", "sample"), start=7)}


@dataclasses.dataclass
class Case:
    """A small model with random parameters, also in heads, and its outputs for four examples.

    `apply` is compiled once, for all tests.
    """

    name: str
    family: Family
    model: Any
    variables: Any
    inputs: tuple
    apply: Callable[..., list[jax.Array]]
    outputs: list[jax.Array]


@functools.cache
def drawn(name: str, **fields: Any) -> Case:
    model = zoo.create(name, **fields)
    inputs = drawn_inputs(name, model, 4)
    variables = jax.jit(model.init)({"params": jax.random.key(0), **STREAMS}, *inputs)
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(1)
    leaves = [jnp.float32(rng.normal(leaf, 0.1)) for leaf in leaves]
    variables = jax.tree.unflatten(tree, leaves)
    apply = jax.jit(functools.partial(call, model))
    return Case(name, MODELS[name], model, variables, inputs, apply, apply(variables, *inputs))


@pytest.fixture(scope="module", params=MARKED)
def nano(request):
    return drawn(request.param, **shallow(request.param))


@pytest.fixture(scope="module", params=NANO_CLASSIFIERS)
def classifier(request):
    return drawn(request.param, num_classes=10)


def call(model, variables, *inputs, **options):
    """The floating-point outputs, computed with the same random streams in every call.

    Boxes in pixels that have no gradient are not among them: those that are chosen by score, and
    anchors, which have no axis b.
    """
    outputs = model.apply(variables, *inputs, rngs=STREAMS, **options)
    return float_outputs(outputs, family_of(model).constant)


def assert_close(actual, expected, tolerance):
    """Each output differs by at most `tolerance` times its largest expected value."""
    for a, b in zip(actual, expected, strict=True):
        scale = max(float(np.abs(b).max()), 1.0)
        np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=0, atol=tolerance * scale)


def test_every_family_has_a_nano():
    assert all(any("nano" in name for name in family.variants) for family in FAMILIES)


@pytest.mark.parametrize("name", [pytest.param(n, marks=speed_of_shapes(n)) for n in MODELS])
def test_parameter_count_and_shape_of_logits(name):
    expected = json.loads(COUNTS.read_text())
    assert name in expected, f"{name} has no golden: add it to tests/golden/make_golden.py"
    model = zoo.create(name)
    keys, inputs = {"params": jax.random.key(0), **STREAMS}, abstract_inputs(name, model, 2)
    output, variables = jax.eval_shape(model.init_with_output, keys, *inputs)
    if name in CLASSIFIERS:
        assert (output.shape, output.dtype) == ((2, 1000), jnp.float32)
    leaves = jax.tree.leaves(variables["params"])
    assert sum(leaf.size for leaf in leaves) == expected[name]
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", [n for n in CLASSIFIERS if hasattr(MODELS[n].module, "tokens")])
def test_shapes_of_tokens(name):
    model = zoo.create(name)
    init = functools.partial(
        model.init_with_output,
        mutable=True,
        capture_intermediates=lambda _, method: method == "tokens",
    )
    _, variables = jax.eval_shape(init, jax.random.key(0), *abstract_inputs(name, model, 2))
    check_tokens(name, model, flatten(variables["intermediates"]))


def check_tokens(name, model, state):
    """Checks the shapes of the tokens and of the attention maps of each block."""
    height, width = zoo.preprocessing(name).size
    count = height // model.patch_size * (width // model.patch_size)
    count += getattr(model, "class_token", False)
    (tokens,) = state.pop("tokens")
    assert tokens.shape == (2, count, model.hidden_dim)
    heads = [model.num_heads] * model.num_layers if hasattr(model, "num_heads") else []
    assert [maps.shape for (maps,) in state.values()] == [(2, n, count, count) for n in heads]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_preprocessing_is_timms(name):
    golden = json.loads((COUNTS.parent / "preprocessing.json").read_text())
    if name not in golden:
        ours = ("mixer_h14_224", "darknet19", "darknet_reference", "extraction")
        assert "nano" in name or name in ours  # timm does not have them
        return
    height, width, mean, std, interpolation, *crop = golden[name]
    assert zoo.preprocessing(name) == Preprocessing(
        (height, width), tuple(mean), tuple(std), interpolation, *crop
    )


def test_every_counted_model_is_registered():
    assert sorted(json.loads(COUNTS.read_text())) == zoo.list_models()


@pytest.mark.parametrize("name", [pytest.param(n, marks=speed_of_shapes(n)) for n in BACKBONES])
def test_feature_map_shapes(name):
    model = zoo.create(name, **shallow(name))
    height, width = zoo.preprocessing(name).size
    images = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    init = functools.partial(model.init_with_output, method="feature_maps")
    maps, _ = jax.eval_shape(init, jax.random.key(0), images)
    strides = model.feature_strides
    assert [m.shape[:3] for m in maps] == [(2, -(-height // s), -(-width // s)) for s in strides]
    assert list(strides) == sorted(strides)


@pytest.mark.parametrize("name", [pytest.param(n, marks=speed_of_training(n)) for n in NANO])
def test_training_moves_every_parameter(name):
    model = zoo.create(name, **shallow(name))
    inputs = drawn_inputs(name, model, 4)
    variables = jax.jit(model.init)({"params": jax.random.key(0), **STREAMS}, *inputs)
    optimiser = optax.adam(1e-3)  # a parameter with a gradient moves by the rate

    @jax.jit
    def step(params, state, rest):
        def loss(params):
            outputs, updates = model.apply(
                {"params": params, **rest}, *inputs, train=True, mutable=list(rest), rngs=STREAMS
            )
            targets = jnp.cos(jnp.arange(1.0, 1000.0))  # without symmetry
            found = float_outputs(outputs, MODELS[name].constant)
            errors = [x - jnp.resize(targets, x.shape) for x in found]
            return sum(jnp.mean(error**2) for error in errors), updates

        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimiser.update(grads, state)
        return optax.apply_updates(params, updates), state, rest, value

    params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    state, losses = optimiser.init(params), []
    for _ in range(3):  # heads start at zero: the first step moves only the heads
        params, state, rest, value = step(params, state, rest)
        losses.append(float(value))
    variables.pop("fixed", None)  # tables that are not trained
    rest.pop("fixed", None)
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), variables, {"params": params, **rest})
    still = tuple(path for path, m in flatten(moved).items() if not m)
    assert still == MODELS[name].without_gradient
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_jit_equals_eager(nano):
    eager = call(nano.model, nano.variables, *nano.inputs)
    assert_close(nano.outputs, eager, 1e-4)


def test_second_call_does_not_compile(nano):
    nano.apply(nano.variables, *(jax.tree.map(lambda x: x[::-1], x) for x in nano.inputs))
    assert nano.apply._cache_size() == 1


def test_batch_of_one_equals_batched(nano):
    apply = jax.jit(functools.partial(call, nano.model))
    singles = [apply(nano.variables, *(x[i : i + 1] for x in nano.inputs)) for i in range(4)]
    for whole, *parts in zip(nano.outputs, *singles, strict=True):
        changes = np.not_equal(whole.shape, parts[0].shape)  # True only for the batch axis
        joined = np.concatenate(parts, axis=int(changes.argmax()))
        assert_close([whole], [joined], 1e-4)


def test_bf16_is_finite_and_near(nano):
    half = nano.model.clone(dtype=jnp.bfloat16)
    outputs = jax.jit(half.apply)(nano.variables, *nano.inputs, rngs=STREAMS)
    assert {x.dtype for x in float_outputs(outputs)} == {jnp.dtype("float32")}
    assert all(bool(jnp.isfinite(x).all()) for x in float_outputs(outputs))
    chosen = nano.family.chosen
    full = jax.jit(nano.model.apply)(nano.variables, *nano.inputs, rngs=STREAMS)
    assert_close(float_outputs(outputs, chosen), float_outputs(full, chosen), 0.05)


def test_zero_classes_give_features(classifier):
    features = zoo.create(classifier.name, num_classes=0)
    variables = classifier.variables
    params = {k: v for k, v in variables["params"].items() if k != "head"}
    x = jax.jit(features.apply)({**variables, "params": params}, *classifier.inputs)
    head = variables["params"]["head"]
    logits = x @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(logits, classifier.outputs[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", RANDOM)
def test_inference_needs_no_rngs(name):
    classifier = drawn(name, num_classes=10)
    known = classifier.family.field_names()
    kind = next(name for name in RANDOM_FIELDS if name in known)
    dropping = zoo.create(classifier.name, num_classes=10, **{kind: 0.5})
    arguments = classifier.variables, *classifier.inputs
    np.testing.assert_array_equal(jax.jit(dropping.apply)(*arguments), classifier.outputs[0])
    with pytest.raises(Exception, match="dropout"):
        jax.eval_shape(
            functools.partial(dropping.apply, train=True, mutable=["batch_stats"]), *arguments
        )
