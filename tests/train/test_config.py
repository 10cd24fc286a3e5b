import dataclasses
import json

import pytest

from train.config import ConfigError, override, to_json
from train.recipes import RECIPES
from zoo.types import InputError


@pytest.fixture
def config():
    return RECIPES["vit_digits"]()


@pytest.mark.parametrize(
    ("argument", "read", "value"),
    [
        ("--steps=10", lambda c: c.steps, 10),
        ("--optim.learning_rate=1e-4", lambda c: c.optim.learning_rate, 1e-4),
        ("--optim.learning_rate=1", lambda c: c.optim.learning_rate, 1.0),
        ("--optim.clip_norm=none", lambda c: c.optim.clip_norm, None),
        ("--optim.name=lamb", lambda c: c.optim.name, "lamb"),
        ("--data.flip=true", lambda c: c.data.flip, True),
        ("--data.flip=False", lambda c: c.data.flip, False),
        ("--data.image_size=16,24", lambda c: c.data.image_size, (16, 24)),
        ("--data.image_size=(16, 24)", lambda c: c.data.image_size, (16, 24)),
        ("--data.mean=[0,0.5,1]", lambda c: c.data.mean, (0.0, 0.5, 1.0)),
        ("--data.source=folder:/a=b,c", lambda c: c.data.source, "folder:/a=b,c"),
        ("--init=12", lambda c: c.init, "12"),
        ("--model.name=mixer_s16_224", lambda c: c.model.name, "mixer_s16_224"),
        ("--model.hidden_dim=32", lambda c: c.model.fields["hidden_dim"], 32),
        ("--model.pool=mean", lambda c: c.model.fields["pool"], "mean"),
        ("--model.dtype=bfloat16", lambda c: c.model.fields["dtype"], "bfloat16"),
        ("--model.representation_dim=8", lambda c: c.model.fields["representation_dim"], 8),
        ("--task.label_smoothing=0.1", lambda c: c.task.label_smoothing, 0.1),
    ],
)
def test_override(config, argument, read, value):
    new = read(override(config, [argument]))
    assert new == value
    assert type(new) is type(value)


def test_overrides_apply_in_order_and_leave_the_rest(config):
    new = override(config, ["--steps=10", "--steps=20", "--seed=3"])
    assert new == dataclasses.replace(config, steps=20, seed=3)


def test_another_model_keeps_of_the_recipes_fields_those_that_it_has():
    config = RECIPES["unet_folder"]()
    assert config.model.fields == {"base_dim": 32}
    depth = "--model.depth=3"
    kept = override(config, [depth, "--model.name=unet"]).model
    assert (kept.name, kept.fields) == ("unet", {"base_dim": 32, "depth": 3})
    other = override(config, ["--model.name=unet_resnet34"]).model
    assert (other.name, other.fields) == ("unet_resnet34", {})
    with pytest.raises(InputError, match="unet_resnet34 has no field 'depth'"):
        override(config, [depth, "--model.name=unet_resnet34"])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--stepz=10", "no field 'stepz'; there are accumulate, batch_size"),
        ("--optim.lr=1", "no field 'lr'; there are b1, b2"),
        ("--steps=ten", "--steps: 'ten' is not an integer"),
        ("--steps=1.5", "--steps: '1.5' is not an integer"),
        ("--steps=0", "steps is 0, but must be at least 1"),
        ("--seed=-1", "seed is -1, but must be at least 0"),
        ("--ema=1.5", "ema is 1.5, but must be in 0..1"),
        ("--optim.warmup_steps=-5", "optim.warmup_steps is -5, but must be at least 0"),
        ("--optim.learning_rate=-1", "optim.learning_rate is -1.0, but must be at least 0"),
        ("--optim.layer_decay=2", "optim.layer_decay is 2.0, but must be in 0..1"),
        ("--task.label_smoothing=2", "label_smoothing is 2.0, but must be in 0..1"),
        ("--data.flip=yes", "is not true or false"),
        ("--data.image_size=8", "is not 2 values"),
        ("--optim.name=adamx", "is not one of adamw, sgd, lamb, lars, adafactor"),
        ("--optim.clip_norm=x", "is not a number or none"),
        ("--optim=adamw", "--optim is a group: set --optim.FIELD, one of name, learning_rate"),
        ("--steps.more=1", "steps has no fields of its own"),
        ("--recipe=other", "no field 'recipe'"),
        ("--model.name=vit_tiny_patch16_223", "no model 'vit_tiny_patch16_223'; similar are"),
        ("--model.hiden_dim=3", "vit_nano_patch4_32 has no field 'hiden_dim'; there are class_tok"),
        ("--model.pool=max", "is not one of token, mean"),
        ("--model.dtype=float33", "'float33' is no dtype"),
        ("--accumulate=7", "accumulate=7 does not divide batch_size=64"),
        ("steps=10", "'steps=10' is not of the form --field=value"),
        ("--steps", "'--steps' is not of the form --field=value"),
    ],
)
def test_wrong_overrides_say_in_one_line_what_is_allowed(config, argument, message):
    with pytest.raises(InputError) as error:
        override(config, [argument])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_build_and_can_be_written(name):
    config = RECIPES[name]()
    assert config.recipe == name
    assert json.loads(json.dumps(to_json(config)))["recipe"] == name
    assert RECIPES[name].__doc__


@pytest.mark.parametrize(
    ("recipe", "model", "message"),
    [
        ("vit_digits", "unet_nano", "it is for segmentation, but vit_digits trains for classif"),
        ("detr_digit_scenes", "resnet_nano", "it is for classification, but detr_digit_scenes"),
        ("unet_digit_scenes", "transformer_nano", "models for that are unet, unet_nano, unet_"),
    ],
)
def test_a_model_of_another_task_is_refused(recipe, model, message):
    with pytest.raises(ConfigError, match=rf"--model\.name={model}: .*{message}") as error:
        override(RECIPES[recipe](), [f"--model.name={model}"])
    assert "\n" not in str(error.value)


def test_a_field_that_the_other_model_lacks_is_named(caplog):
    config = override(RECIPES["vit_digits"](), ["--model.name=resnet_nano"])
    assert config.model.fields == {}
    assert "note: resnet_nano has no field patch_size: 2 of the recipe's" in caplog.text


def test_a_field_of_the_loss_is_found_for_whoever_looks_in_the_task():
    with pytest.raises(ConfigError, match=r"one of the loss: --task\.loss\.l1_weight"):
        override(RECIPES["detr_digit_scenes"](), ["--task.l1_weight=5"])
    config = override(RECIPES["detr_digit_scenes"](), ["--task.loss.l1_weight=7"])
    assert config.task.loss.l1_weight == 7
