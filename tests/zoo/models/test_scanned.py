"""The layers of all families give the same in a loop, scanned, and with remat."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.zoo.models.drawn import drawn_inputs, float_outputs
from zoo.registry import family_of
from zoo.text.decoding import Search, generate
from zoo.types import InputError
from zoo.weights import Checkpoint, load_variables
from zoo.weights.files import METADATA
from zoo.weights.load import _stacked, _unstack
from zoo.weights.tree import flatten

WIDTHS = {"hidden_dim": 16, "num_heads": 2, "mlp_dim": 24}
DECODER = {f"decoder_{name}": value for name, value in WIDTHS.items()}
SIDES = {"num_encoder_layers": 2, "num_decoder_layers": 2, "dropout": 0.0}
SMALL = {"image_size": 8, "patch_size": 4, "num_layers": 2}

# For a model of each family: fields that make it small, a stacked leaf, and its number of layers.
# The tests of ViT are in tests/zoo/layers/test_stack.py.
CASES = {
    "mixer_nano_patch4_32": ({"hidden_dim": 16, **SMALL}, "blocks/mlp_tokens/fc1/bias", 2),
    "mae_vit_nano_patch4": (
        {**WIDTHS, **DECODER, **SMALL, "decoder_num_layers": 3},
        "decoder/blocks/mlp/fc1/bias",
        3,
    ),
    "detr_nano": (
        {
            **{**WIDTHS, **SIDES, "num_decoder_layers": 3, "num_queries": 3, "num_classes": 2},
            "backbone_fields": {"num_blocks": (1,), "stage_dims": (8,), "norm": "frozen"},
        },
        "decoder/cross_attn/query/bias",
        3,
    ),
    "transformer_nano": (
        {**WIDTHS, **SIDES, "vocab_size": 24},
        "decoder_blocks/cross_attn/query/bias",
        2,
    ),
}


@dataclasses.dataclass
class Both:
    """A model with looped and with scanned layers, with the same parameters, and a batch.

    The parameters went from the first to the second through the file at `path`.
    """

    name: str
    loop: tuple
    scanned: tuple
    path: Path
    batch: tuple


FAST = ("mixer_nano_patch4_32", "transformer_nano")


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=[] if n in FAST else pytest.mark.slow) for n in CASES],
)
def both(request, tmp_path_factory):
    name, (fields, *_) = request.param, CASES[request.param]
    loop = zoo.create(name, **fields)
    batch = drawn_inputs(name, loop, 2)
    if hasattr(loop, "image_size"):
        images = batch[0][:, :8, :8]
        batch = (images, jnp.eye(2, 4, dtype=bool)) if "mae" in name else (images,)
    shapes = jax.eval_shape(loop.init, jax.random.key(0), *batch)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda x: jnp.float32(rng.uniform(0.1, 0.4, x.shape)), shapes)
    variables["params"] = jax.tree.map(lambda x: x - 0.25, variables["params"])
    path = tmp_path_factory.mktemp("files") / "loop.safetensors"
    zoo.save(loop, variables, path)
    return Both(name, (loop, variables), zoo.load(path, scan_layers=True), path, batch)


def outputs_and_gradients(model, variables, batch):
    """The outputs, and the gradients under the names of a model without scanned layers."""

    @jax.jit
    def both(params, rest):
        def loss(params):
            outputs = float_outputs(model.apply({**rest, "params": params}, *batch, train=True))
            return sum((x**2).sum() for x in outputs), outputs

        return jax.grad(loss, has_aux=True)(params)

    rest = {name: tree for name, tree in variables.items() if name != "params"}
    grads, outputs = both(variables["params"], rest)
    flat = flatten({"params": grads})
    return outputs, _unstack(flat, _stacked(family_of(model), model)) if model.scan_layers else flat


def assert_close(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5 * max(1, np.abs(b).max()))


def test_outputs_and_gradients_are_those_of_the_loop(both):
    (loop, variables), (scanned, stacked) = both.loop, both.scanned
    _, leaf, num_layers = CASES[both.name]
    assert len(flatten(stacked)[f"params/{leaf}"]) == num_layers
    expected = outputs_and_gradients(loop, variables, both.batch)
    assert_close(outputs_and_gradients(loop.clone(remat=True), variables, both.batch), expected)
    again = outputs_and_gradients(scanned.clone(remat=True), stacked, both.batch)
    assert_close(again, expected)


def test_files_are_the_same_with_and_without_scanned_layers(both, tmp_path):
    zoo.save(*both.scanned, tmp_path / "scanned.safetensors")
    _, variables = zoo.load(tmp_path / "scanned.safetensors", scan_layers=False)
    jax.tree.map(np.testing.assert_array_equal, variables, both.loop[1])


def described(model, variables, **fields):
    """A checkpoint like those of a run: stacked, with the fields of the model."""
    entry = {"name": model, "fields": {"scan_layers": True, **fields}, "source": None}
    readers = {name: partial(np.asarray, x) for name, x in flatten(variables).items()}
    return Checkpoint(Path("run"), "run", readers, {METADATA: json.dumps(entry)})


def test_the_encoder_of_a_scanned_mae_is_a_vit():
    fields = CASES["mae_vit_nano_patch4"][0]
    mae = zoo.create("mae_vit_nano_patch4", **fields, scan_layers=True)
    shapes = jax.eval_shape(
        mae.init, {"params": jax.random.key(0), "mask": jax.random.key(0)}, jnp.zeros((1, 8, 8, 3))
    )
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: np.float32(rng.normal(size=x.shape)), shapes)
    checkpoint = described("mae_vit_nano_patch4", variables)
    vit = zoo.create("vit_nano_patch4_32", **WIDTHS, **SMALL, num_classes=0)
    loaded, _ = load_variables(vit, checkpoint)
    np.testing.assert_array_equal(
        loaded["params"]["blocks_1"]["attn"]["key"]["kernel"],
        variables["params"]["encoder"]["blocks"]["attn"]["key"]["kernel"][1],
    )
    with pytest.raises(InputError, match="has 2 layers, not 3"):
        load_variables(vit.clone(num_layers=3), checkpoint)


@pytest.mark.parametrize("num_beams", [1, 2])
def test_scanned_layers_translate_as_the_loop(num_beams):
    loop = zoo.create("transformer_nano", **CASES["transformer_nano"][0])
    sources, targets, valid, _ = drawn_inputs("transformer_nano", loop, 2)
    shapes = jax.eval_shape(loop.init, jax.random.key(0), sources, targets)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: jnp.float32(rng.normal(0, 0.4, x.shape)), shapes)
    scanned, flat = loop.clone(scan_layers=True), flatten(variables)
    stacked = {
        name: jnp.stack([flat.pop(part) for part in parts])
        for name, parts in _stacked(family_of(scanned), scanned).items()
    }
    search = Search(23, 0, 1, 6, num_beams, 1.0, early_stopping=False)
    expected, found = (
        jax.jit(partial(generate, model, search=search))(tree, sources, valid)
        for model, tree in (
            (loop, variables),
            (scanned, zoo.weights.tree.unflatten({**flat, **stacked})),
        )
    )
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
