"""Preprocessing belongs to the weights: it comes from name maps, config files, `save` and runs."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

import zoo
from zoo.data import normalize
from zoo.data.transforms import resize_and_crop
from zoo.described import preprocessing_of
from zoo.predict import predict_classes
from zoo.types import IMAGENET_MEAN, IMAGENET_STD, InputError, Preprocessing

PICTURE = np.load(Path(__file__).parents[1] / "golden" / "data_transforms.npz")["picture"]
HALF = (0.5, 0.5, 0.5)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
VIT = {"image_size": 16, "num_layers": 1, "hidden_dim": 8, "num_heads": 2, "mlp_dim": 16}
MAE_VIT = {**VIT, "pool": "mean", "norm_after_pool": True}
CASES = {"vit_nano_patch4_32": VIT, "resnet_nano": {}}


def drawn(model):
    """Variables without zeros."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.float32(rng.uniform(0.1, 1, x.shape)), shapes)


def foreign(path, name, source, **fields):
    """Writes a model to a file as the program of a source does, in its names."""
    model = zoo.create(name, num_classes=7, **fields)
    saved = path.with_suffix(".safetensors")
    zoo.save(model, drawn(model), saved, source)
    with safe_open(saved, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    saved.unlink()
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def theirs(size, resized, filter_, squash=False):
    """torchvision's Resize and CenterCrop on PIL images; `squash` does not keep the aspect."""
    image = Image.fromarray(PICTURE)
    width, height = image.size
    if squash:
        both = (resized, resized)
    else:
        short = min(width, height)
        both = (int(resized * width / short), int(resized * height / short))
    image = image.resize(both, FILTERS[filter_])
    left, top = (round((side - size) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def assert_prepared(model, variables, array, mean, std):
    """`zoo.predict` gives for the picture what the model gives for this array."""
    how = preprocessing_of(model)
    size, *rest = how.size, how.crop_fraction, how.interpolation, how.crop_mode
    np.testing.assert_array_equal(resize_and_crop(PICTURE, size, *rest), array)
    images = normalize(jnp.asarray(array)[None], mean, std)
    # Scales the head so that scores are not near 0 or 1, and other images get other scores.
    spread = np.ptp(model.apply(variables, images))
    head = jax.tree.map(lambda x: x / spread, variables["params"]["head"])
    variables = {**variables, "params": {**variables["params"], "head": head}}
    found = zoo.predict(model, variables, PICTURE)
    expected = predict_classes(model.apply(variables, images))
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_deit(tmp_path):
    path = foreign(tmp_path / "model.safetensors", "vit_nano_patch4_32", "timm", **VIT)
    config = {
        "input_size": [3, 16, 16],
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "interpolation": "bicubic",
        "crop_pct": 0.8,
        "crop_mode": "center",
    }
    for content in (config, {"architecture": "deit", "pretrained_cfg": config}):
        (tmp_path / "config.json").write_text(json.dumps(content))
        model, variables = zoo.load("vit_nano_patch4_32", path, num_classes=7, **VIT)
        assert model.preprocessing == Preprocessing((16, 16), crop_fraction=0.8)
        assert_prepared(model, variables, theirs(16, 20, "bicubic"), IMAGENET_MEAN, IMAGENET_STD)
        assert zoo.preprocessing(path) == zoo.preprocessing(tmp_path) == model.preprocessing
        (tmp_path / "preprocessor_config.json").write_text('{"size": 99}')  # timm's file is used


def test_timms_crop_modes(tmp_path):
    path = foreign(tmp_path / "model.safetensors", "vit_nano_patch4_32", "timm", **VIT)
    config = {"input_size": [3, 16, 16], "crop_mode": "squash", "crop_pct": None, "std": HALF}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, variables = zoo.load("vit_nano_patch4_32", path, num_classes=7, **VIT)
    assert model.preprocessing == Preprocessing((16, 16), std=HALF, crop_mode="squash")
    assert_prepared(model, variables, theirs(16, 18, "bicubic", True), IMAGENET_MEAN, HALF)


def test_torchvisions_vit(tmp_path):
    path = foreign(tmp_path / "vit.safetensors", "vit_nano_patch4_32", "torchvision", **VIT)
    model, variables = zoo.load("vit_nano_patch4_32", path, num_classes=7, **VIT)
    assert_prepared(model, variables, theirs(16, 18, "bilinear"), IMAGENET_MEAN, IMAGENET_STD)
    assert zoo.preprocessing(path, zoo.create("vit_nano_patch4_32", **VIT)) == model.preprocessing
    given = Preprocessing((16, 16), crop_fraction=0.5)
    model, _ = zoo.load("vit_nano_patch4_32", path, num_classes=7, preprocessing=given, **VIT)
    assert model.preprocessing == given
    swag = path.rename(tmp_path / "vit_b_16_lc_swag-4e70ced5.safetensors")
    model, variables = zoo.load("vit_nano_patch4_32", swag, num_classes=7, **VIT)
    assert_prepared(model, variables, theirs(16, 16, "bicubic"), IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize("source", ["timm", "fair"])
def test_fine_tuned_mae(tmp_path, source):
    path = foreign(tmp_path / "mae.safetensors", "vit_nano_patch4_32", "timm", **MAE_VIT)
    model, variables = zoo.load("vit_nano_patch4_32", path, source, num_classes=7, **MAE_VIT)
    assert_prepared(model, variables, theirs(16, 18, "bicubic"), IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize(
    ("file", "source", "filter_", "resized"),
    [
        ("resnet50-0676ba61.pth", None, "bilinear", 256),
        ("resnet50-11ad3fa6.pth", None, "bilinear", 232),
        ("mine.pth", "torchvision", "bilinear", 256),
        ("mine.pth", None, "bicubic", 67),  # the default of the nano model: a crop of 64 from 67
    ],
)
def test_resnets_with_other_crops(tmp_path, file, source, filter_, resized):
    path = foreign(tmp_path / file, "resnet_nano", "timm")
    model, variables = zoo.load("resnet_nano", path, source, num_classes=7)
    array = theirs(224 if resized > 200 else 64, resized, filter_)
    assert_prepared(model, variables, array, IMAGENET_MEAN, IMAGENET_STD)
    assert (model.preprocessing is None) == (resized == 67)
    assert zoo.preprocessing(path, "resnet_nano", source).interpolation == filter_


def test_hugging_faces_vit(tmp_path):
    path = foreign(tmp_path / "model.safetensors", "vit_nano_patch4_32", "huggingface", **VIT)
    model, variables = zoo.load("vit_nano_patch4_32", path, num_classes=7, **VIT)
    assert_prepared(model, variables, theirs(16, 16, "bilinear", True), HALF, HALF)
    config = {
        "size": {"height": 20, "width": 20},
        "do_center_crop": True,
        "crop_size": {"height": 16, "width": 16},
        "resample": 3,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    model, variables = zoo.load("vit_nano_patch4_32", path, num_classes=7, **VIT)
    array = theirs(16, 20, "bicubic", True)
    assert_prepared(model, variables, array, IMAGENET_MEAN, IMAGENET_STD)


def shown(size, filter_="bilinear", crop=1.0, mode="center", mean=HALF, std=HALF):
    return Preprocessing(size, mean, std, filter_, crop, mode)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"size": 24}, shown((24, 24), mode="squash")),
        ({"size": {"height": 24, "width": 32}}, shown((24, 32), mode="squash")),
        ({"size": 224, "crop_pct": 0.9}, shown((224, 224), crop=0.9)),
        ({"size": 384, "crop_pct": 0.9}, shown((384, 384), mode="squash")),
        ({"size": {"shortest_edge": 224}, "resample": 3}, shown((224, 224), "bicubic", 0.875)),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224},
            shown((224, 224), crop=0.875),
        ),
        (
            {"size": 224, "do_center_crop": True, "feature_extractor_type": "CLIPFeatureExtractor"},
            shown((224, 224)),
        ),
        (
            {"size": 38, "do_center_crop": True, "crop_size": 21},  # 21 / (21 / 38) < 38
            shown((21, 21), crop=math.nextafter(21 / 38, 0), mode="squash"),
        ),
        ({"size": 800, "max_size": 1333}, shown((800, 1333), crop=0.875)),
        ({"size": {"shortest_edge": 800, "longest_edge": 1333}}, shown((800, 1333), crop=0.875)),
        (
            {"size": 24, "do_normalize": False},
            shown((24, 24), mode="squash", mean=(0.0,) * 3, std=(1.0,) * 3),
        ),
    ],
)
def test_ways_of_hugging_face(tmp_path, config, expected):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    path = foreign(tmp_path / "x.safetensors", "resnet_nano", "huggingface")
    assert zoo.preprocessing(path) == expected


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.json", "{", "cannot be read: Expecting"),
        ("config.json", "[]", "not an object"),
        ("config.json", '{"pretrained_cfg": 3}', "pretrained_cfg is 3"),
        ("config.json", '{"input_size": [3, 224]}', r"input_size is \[3, 224\], not 3 numbers"),
        ("config.json", '{"input_size": [3, 0, 9]}', "sides of 0 x 9"),
        ("config.json", '{"input_size": [3, 9, 9], "crop_pct": 2}', "crop_pct is 2"),
        ("config.json", '{"input_size": [3, 9, 9], "mean": ["a", 1, 1]}', "mean is 'a'"),
        ("config.json", '{"input_size": [3, 9, 9], "std": [0, 1, 1]}', "std is .* positive"),
        ("config.json", '{"input_size": [3, 9, 9], "interpolation": "x"}', "interpolation 'x'"),
        ("config.json", '{"input_size": [3, 9, 9], "crop_mode": "border"}', "crop_mode 'border'"),
        ("preprocessor_config.json", '{"size": "big"}', "size is 'big', not a number"),
        ("preprocessor_config.json", '{"size": {"height": 3}}', "width is None"),
        ("preprocessor_config.json", '{"size": 9, "resample": 1}', "resample is 1"),
        ("preprocessor_config.json", '{"size": 9, "resample": []}', r"resample is \[\]"),
        ("preprocessor_config.json", '{"size": 9, "image_std": 3}', "image_std is 3"),
        (
            "preprocessor_config.json",
            '{"size": 9, "do_center_crop": true, "crop_size": 10}',
            "crop_size is",
        ),
    ],
)
def test_malformed_files(tmp_path, file, text, message):
    path = foreign(tmp_path / "x.safetensors", "resnet_nano", "timm")
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=rf"{file}: .*{message}") as error:
        zoo.load("resnet_nano", path, num_classes=7)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("source", ["zoo", "timm", "huggingface"])
def test_saved_files_keep_it(tmp_path, name, source):
    model, path = zoo.create(name, num_classes=3, **CASES[name]), tmp_path / "x.safetensors"
    variables = drawn(model)
    zoo.save(model, variables, path, source)
    assert zoo.load(path)[0] == model
    size = (16, 16) if name != "resnet_nano" else (64, 64)
    assert zoo.preprocessing(path).size == size
    how = Preprocessing((16, 16), HALF, IMAGENET_STD, "bilinear", 0.7, "squash")
    zoo.save(model, variables, path, source, preprocessing=how, class_names=("a", "b", "c"))
    (tmp_path / "config.json").write_text("{")  # the file's own metadata is used
    again, _ = zoo.load(path)
    names = ("a", "b", "c")
    assert again == model.clone(preprocessing=how, class_names=names)
    assert zoo.preprocessing(path) == how
    assert zoo.class_names(path) == names
    zoo.save(again, variables, path, source)
    assert zoo.load(path)[0] == again
    assert zoo.class_names(path) == names
    zoo.save(again.clone(class_names=()), variables, path, source)
    assert zoo.load(path)[0] == again.clone(class_names=())
    with pytest.raises(InputError, match=r"x.safetensors: no names of classes"):
        zoo.class_names(path)


def test_files_of_version_0_1(tmp_path):
    path = foreign(tmp_path / "x.safetensors", "resnet_nano", "huggingface")
    with safe_open(path, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    entry = {"name": "resnet_nano", "fields": {"num_classes": 7}, "source": "huggingface"}
    save_file(tensors, path, metadata={"jax-vision-zoo": json.dumps(entry)})
    assert zoo.load(path)[0] == zoo.create("resnet_nano", num_classes=7)
    assert zoo.preprocessing(path) == zoo.preprocessing("resnet_nano")


@pytest.mark.parametrize("how", [3, {}, {"size": [1, 2]}, {"size": "ab", "mean": 1}])
def test_damaged_entry(tmp_path, how):
    entry = {"name": "resnet_nano", "fields": {}, "preprocessing": how}
    path = tmp_path / "x.safetensors"
    save_file({"a": np.zeros(1)}, path, metadata={"jax-vision-zoo": json.dumps(entry)})
    with pytest.raises(InputError, match=r"x\.safetensors: its metadata"):
        zoo.preprocessing(path)


def test_runs(tmp_path):
    model = zoo.create("vit_nano_patch4_32", num_classes=3, **VIT)
    data = {
        "image_size": [16, 16],
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "interpolation": "bilinear",
        "crop_fraction": 0.8,
    }
    entry = {"name": "vit_nano_patch4_32", "fields": {"num_classes": 3, **VIT}}
    config = {"model": entry, "data": data, "class_names": ["a", "b", "c"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    variables = drawn(model)
    options = ocp.CheckpointManagerOptions(best_fn=lambda metrics: metrics["score"])
    with ocp.CheckpointManager(tmp_path / "checkpoints", options=options) as manager:
        item = ocp.args.StandardSave(variables)
        manager.save(4, args=ocp.args.Composite(variables=item), metrics={"score": 0.5})
    for run in (tmp_path, tmp_path / "checkpoints" / "4"):
        again, loaded = zoo.load(run)
        how = Preprocessing((16, 16), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", 0.8)
        assert again.preprocessing == zoo.preprocessing(run) == how
        assert zoo.class_names(run) == ("a", "b", "c")
    assert_prepared(again, loaded, theirs(16, 20, "bilinear"), how.mean, how.std)
    zoo.save(again, loaded, tmp_path / "x.safetensors")
    assert zoo.load(tmp_path / "x.safetensors")[0] == again


def test_the_model_must_be_given(tmp_path):
    path = foreign(tmp_path / "x.safetensors", "resnet_nano", "timm")
    with pytest.raises(InputError, match=r"x.safetensors does not say .* give model=NAME"):
        zoo.preprocessing(path)
    assert zoo.preprocessing(path, "resnet_nano") == zoo.preprocessing("resnet_nano")
    with pytest.raises(InputError, match=r"missing/x.pth: no such file"):
        zoo.preprocessing("missing/x.pth")


@pytest.mark.parametrize(
    ("name", "source", "file", "expected"),
    [
        ("vit_base_patch16_224", "torchvision", "vit_b_16-c867db91.pth", ("bilinear", 256)),
        ("vit_large_patch16_224", "torchvision", "vit_l_16-852ce7e3.pth", ("bilinear", 242)),
        ("vit_base_patch16_384", "torchvision", "x", ("bicubic", 384)),
        ("vit_huge_patch14_224", "torchvision", "x", ("bicubic", 224)),
        ("resnet50", "torchvision", "resnet50-0676ba61.pth", ("bilinear", 256)),
        ("resnet101", "torchvision", "resnet101-cd907fc2.pth", ("bilinear", 232)),
        ("resnet50", "huggingface", "model.safetensors", ("bicubic", 256)),
        ("vit_base_patch16_224", "fair", "mae_finetuned_vit_base.pth", ("bicubic", 256)),
        ("vit_base_patch16_384", "fair", "x", ("bicubic", 384)),
        ("mae_vit_base_patch16", "fair", "x", ("bicubic", 256)),
        ("mae_vit_base_patch16", "huggingface", "x", ("bicubic", 256)),
    ],
)
def test_published_models(name, source, file, expected):
    model = zoo.create(name)
    maps = [m for m in zoo.registry.family_of(model).names if m.source == source]
    size = getattr(model, "image_size", 224)
    for name_map in maps:
        how = name_map.preprocessing(model, file)
        assert (how.mean, how.std) == (IMAGENET_MEAN, IMAGENET_STD)
        assert (how.interpolation, int(size / how.crop_fraction)) == expected
