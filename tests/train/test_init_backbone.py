"""Where the layers of a loaded backbone go in a detector that has them in several places."""

import dataclasses
import io

import jax
import numpy as np
import pytest
from rich.console import Console

import zoo
from train.config import ModelConfig
from train.model import initial_variables
from train.recipes import RECIPES
from zoo.registry import family_of
from zoo.weights.tree import abstract_leaves, flatten

PLACES = {
    "fasterrcnn_nano": {"stem_conv": "body", "stages_1_0": "body"},
    "rfcn_nano": {"stem_conv": "body", "stages_1_1": "body", "stages_2_0": "box/stage"},
    "efficientdet_nano": {"stem_conv": "body", "stages_2_0": "body"},
    "tridentnet_nano": {"stages_0_0": "body", "stages_1_1": "trident", "stages_2_0": "box/stage"},
}


@pytest.mark.parametrize("name", PLACES)
def test_each_stage_is_where_the_detector_has_it(name, tmp_path):
    model = zoo.create(name)
    net = zoo.create(model.backbone, **{**model.backbone_fields, "num_classes": 0})
    shapes = jax.eval_shape(net.init, jax.random.key(0), *family_of(net).example(net))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    zoo.save(net, variables, path := tmp_path / "backbone.safetensors")
    config = dataclasses.replace(
        RECIPES["fasterrcnn_digit_scenes"](), model=ModelConfig(name), init_backbone=str(path)
    )
    console = Console(file=io.StringIO())
    found = flatten(initial_variables(config, model, console))

    leaves = flatten(variables)
    unused = [key for key in leaves if key.split("/")[1] in ("last_conv", "last_norm")]
    assert len(found) == len(leaves) - len(unused)
    named = "not in the model: last_conv, last_norm" in console.file.getvalue()
    assert named == bool(unused) == (name == "efficientdet_nano")
    wanted = abstract_leaves(model, family_of(model).example(model))
    for key, x in found.items():
        assert wanted[key].shape == x.shape
    for layer, place in PLACES[name].items():
        for key, x in leaves.items():
            collection, _, rest = key.partition("/")
            if rest.startswith(f"{layer}/"):
                np.testing.assert_array_equal(found[f"{collection}/{place}/{rest}"], x)
