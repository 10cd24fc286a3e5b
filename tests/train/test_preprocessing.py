"""Images of a run are prepared as its checkpoint or its model expects."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file, save_file

import zoo
from train.config import ConfigError, override
from train.model import with_preprocessing
from train.recipes import RECIPES
from zoo.types import IMAGENET_MEAN, IMAGENET_STD, InputError, Preprocessing
from zoo.weights.checksums import MANIFEST

HALF = (0.5, 0.5, 0.5)
HOW = Preprocessing((16, 16), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", 0.75, "squash")


def data_of(recipe, *overrides):
    return with_preprocessing(override(RECIPES[recipe](), overrides)).data


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_the_numbers_of_every_recipe(recipe):
    data = data_of(recipe)
    if not hasattr(data, "mean"):
        return
    half = recipe.startswith(("vit", "mixer")) or "digit" in recipe
    half &= not recipe.startswith("unet")
    expected = (HALF, HALF) if half else (IMAGENET_MEAN, IMAGENET_STD)
    if recipe in ("ssd_finetune", "ssd300_vgg16_coco"):  # pixels of 0..255 less a mean of its own
        expected = (0.48235, 0.45882, 0.40784), (1 / 255,) * 3
    if recipe.startswith(("centernet", "cornernet", "extremenet")) and not half:  # the authors' own
        expected = (0.47026115, 0.44719302, 0.40789654), (0.27809835, 0.27408164, 0.28863828)
    if recipe.startswith("yolov"):
        expected = (0.0,) * 3, (1.0,) * 3
    assert (data.mean, data.std) == expected
    if recipe == "vit_b16_finetune":
        found = data.interpolation, data.crop_fraction, data.crop_mode
        assert found == ("bicubic", 0.9, "center")


def test_settings_decide_over_the_model():
    data = data_of("vit_b16_finetune", "--data.mean=0,0,0", "--data.crop_fraction=1")
    assert (data.mean, data.std, data.crop_fraction) == ((0.0, 0.0, 0.0), HALF, 1.0)
    data = data_of("vit_digits", "--model.name=resnet_nano")
    assert (data.mean, data.interpolation) == (HALF, "bilinear")  # set by the recipe
    data = data_of("vit_digits", "--data.crop_mode=none", "--data.interpolation=none")
    assert (data.crop_mode, data.interpolation) == ("center", "bicubic")


def test_a_run_is_prepared_as_its_checkpoint_and_knows_it(run, tiny, tmp_path):
    fields = tiny().model.fields
    model = zoo.create("vit_nano_patch4_32", **fields, image_size=16, num_classes=3)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    init = tmp_path / "init.safetensors"
    zoo.save(model, variables, init, preprocessing=HOW)
    names = ("mean", "std", "interpolation", "crop_fraction", "crop_mode")
    own = [f"--data.{name}=none" for name in names]
    overrides = [f"--init={init}", "--data.image_size=16,16", *own]
    workdir, _, _ = run(*overrides, "--steps=2")
    data = json.loads((workdir / "config.json").read_text())["data"]
    expected = dataclasses.asdict(HOW)
    assert {name: data[name] for name in names} == {
        name: list(expected[name]) if isinstance(expected[name], tuple) else expected[name]
        for name in names
    }
    model, variables = zoo.load(workdir)
    assert model.preprocessing == zoo.preprocessing(workdir) == HOW
    photo = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    found = zoo.predict(model, variables, photo)
    given = zoo.predict(model.clone(preprocessing=None), variables, photo, preprocessing=HOW)
    np.testing.assert_array_equal(found.scores, given.scores)
    init.unlink()  # a resumed run does not need it
    assert run(*overrides, "--steps=2")[1].step == 2
    with pytest.raises(InputError, match=r"init\.safetensors"):
        run(*overrides, workdir="other")


def test_a_run_has_the_epsilon_of_its_checkpoint(run, tiny, tmp_path):
    model = zoo.create("vit_nano_patch4_32", **tiny().model.fields, num_classes=3)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    init = tmp_path / "init.safetensors"
    zoo.save(model, variables, init, "huggingface")
    save_file(load_file(init), init)  # without the description of our own files
    assert model.norm_epsilon != 1e-12
    workdir, _, _ = run(f"--init={init}", "--steps=2")
    assert zoo.load(workdir)[0].norm_epsilon == 1e-12
    init.unlink()  # a resumed run does not need it
    assert run(f"--init={init}", "--steps=2")[1].step == 2


def test_a_run_of_before_goes_on(run):
    workdir, _, _ = run("--steps=2")
    path = workdir / "config.json"
    config = json.loads(path.read_text())
    del config["data"]["crop_mode"]
    path.write_text(json.dumps(config))
    assert zoo.load(workdir)[0].preprocessing.mean == HALF
    assert run("--steps=2")[1].step == 2
    with pytest.raises(ConfigError, match=r"data\.crop_mode=center, not squash"):
        run("--steps=2", "--data.crop_mode=squash")


def test_only_a_run_with_checkpoints_says_it(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"data": {"mean": HALF, "std": HALF}}))
    config = override(RECIPES["unet_digit_scenes"](), ["--data.mean=none", "--data.std=none"])
    workdir = epath.Path(tmp_path)
    assert with_preprocessing(config, workdir).data.mean == IMAGENET_MEAN
    step = tmp_path / "checkpoints" / "5"
    step.mkdir(parents=True)
    assert with_preprocessing(config, workdir).data.mean == IMAGENET_MEAN
    (step / MANIFEST).touch()
    assert with_preprocessing(config, workdir).data.mean == HALF
    assert with_preprocessing(with_preprocessing(config)) == with_preprocessing(config)


def test_the_field_of_the_model_is_not_a_setting():
    with pytest.raises(ConfigError, match="vit_nano_patch4_32 has no field 'preprocessing'"):
        override(RECIPES["vit_digits"](), ["--model.preprocessing=none"])
    with pytest.raises(ConfigError, match="no field 'depth'"):
        data_of("vit_b16_finetune", "--init=x", "--model.depth=3")
