"""What `zoo.predict` takes, what it refuses, and the names of classes in its results."""

import io
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import zoo
from zoo.types import InputError

NAMES = ("cat", "dog", "emu")
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.fixture(scope="module")
def classifier():
    """A ViT without blocks, of three classes, whose probabilities depend on the image."""
    model = zoo.create("vit_nano_patch4_32", num_classes=3, num_layers=0)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    kernel = variables["params"]["head"]["kernel"]
    variables["params"]["head"]["kernel"] = jax.random.normal(jax.random.key(1), kernel.shape)
    return model, variables


@pytest.fixture
def png(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def forms(png):
    """The same image in every form that is allowed."""
    yield from (png, str(png), pathlib.PurePosixPath(png), io.BytesIO(png.read_bytes()))
    yield from (Image.open(png), PIXELS, jnp.asarray(PIXELS), np.asfortranarray(PIXELS))
    with png.open("rb") as file:
        yield file


def test_the_same_image_in_every_form(classifier, png):
    expected = zoo.predict(*classifier, PIXELS)
    for image in forms(png):
        found = zoo.predict(*classifier, image)
        np.testing.assert_array_equal(found.scores, expected.scores)


def test_lists_of_images(classifier, png):
    other = 255 - PIXELS[:30]
    singles = [zoo.predict(*classifier, image) for image in (PIXELS, other)]
    for images in ([png, other], (PIXELS, Image.fromarray(other))):
        found = zoo.predict(*classifier, images)
        assert len(found) == 2
        for one, single in zip(found, singles, strict=True):
            np.testing.assert_array_equal(one.scores, single.scores)
    assert zoo.predict(*classifier, []) == []


REFUSED = {
    "url": ("https://example.org/cat.jpg", "only local files are read: download it"),
    "hub": ("hf://owner/repo/cat.jpg", "only local files are read"),
    "bucket": ("gs://bucket/cat.jpg", "only local files are read"),
    "url as a path": (pathlib.Path("https://example.org/cat.jpg"), "only local files are read"),
    "data url": ("data:image/png;base64,AAAA", "only local files are read"),
    "nowhere": ("nowhere.jpg", "nowhere.jpg: cannot be read: No such file"),
    "folder": (".", r"\.: it is a folder; give a list of the images in it"),
    "nothing": (None, "an image is a path, .* or a list of these, not NoneType"),
    "number": (3, "not int"),
    "bytes": (b"\x89PNG", "a file opened in binary mode, .*, not bytes"),
    "text": (io.StringIO("hello"), "the file object: opened as text; open it in binary mode, 'rb'"),
    "no image": (io.BytesIO(b"hello"), "the file object: not an image of a known format"),
    "empty": (io.BytesIO(), r"the file object: the image is empty \(0 bytes\)"),
    "floats": (PIXELS / np.float32(255), "not float32 .*; pixels are 0..255, neither scaled nor"),
    "batch": (PIXELS[None], r"not uint8 \[1, 40, 50, 3\]; give a list of images"),
    "gray": (PIXELS[..., 0], r"an image is uint8 \[h w 3\], not uint8 \[40, 50\]"),
    "on the device": (jnp.zeros((3, 8, 8)), r"not float32 \[3, 8, 8\]"),
    "no pixels": (PIXELS[:0], r"at least one pixel, not the shape \[0, 50, 3\]"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(classifier, kind):
    image, message = REFUSED[kind]
    with pytest.raises(InputError, match=message) as error:
        zoo.predict(*classifier, image)
    assert "\n" not in str(error.value)
    if kind in ("url", "nothing", "floats"):
        with pytest.raises(InputError, match=rf"images\[1\]: .*{message}"):
            zoo.predict(*classifier, [PIXELS, image])


def test_a_closed_file(classifier, png):
    with png.open("rb") as file:
        pass
    with pytest.raises(InputError, match=r"photo\.png: cannot be read: "):
        zoo.predict(*classifier, file)


def test_classes_have_the_names_that_a_file_stores(classifier, tmp_path):
    path = tmp_path / "x.safetensors"
    zoo.save(*classifier, path, class_names=NAMES)
    model, variables = zoo.load(path)
    assert model.class_names == zoo.class_names(path) == NAMES
    found = zoo.predict(model, variables, PIXELS)
    assert found.names == tuple(NAMES[i] for i in found.classes[0])
    assert zoo.predict(*classifier, PIXELS).names == ()
    given = zoo.predict(model, variables, PIXELS, class_names=("a", "b"))
    assert given.names == tuple(("a", "b", "2")[i] for i in found.classes[0])
    zoo.save(model, variables, tmp_path / "again.safetensors", "timm")
    assert zoo.class_names(tmp_path / "again.safetensors") == NAMES
    assert zoo.load(tmp_path / "again.safetensors")[0] == model
    assert zoo.load(path, num_classes=0)[0].class_names == ()
    assert zoo.load(path, num_classes=2)[0].class_names == ()


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"id2label": {"1": "dog", "0": "cat", "2": "emu"}}, NAMES),
        ({"label_names": list(NAMES)}, NAMES),
        ({"id2label": {str(i): f"LABEL_{i}" for i in range(3)}}, ()),
        ({"id2label": {"0": "cat"}}, ()),  # names of another number of classes
        ({"hidden_size": 64}, ()),
    ],
)
def test_names_of_hugging_face_and_timm(classifier, tmp_path, config, names):
    zoo.save(*classifier, tmp_path / "model.safetensors", "timm")
    save_file(load_file(tmp_path / "model.safetensors"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    fields = {"num_classes": 3, "num_layers": 0}
    model, variables = zoo.load("vit_nano_patch4_32", tmp_path, **fields)
    assert model.class_names == names
    found = zoo.predict(model, variables, PIXELS)
    assert found.names == tuple(names[i] for i in found.classes[0] if names)


def test_names_of_objects_and_of_pixels():
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    model = zoo.create("detr_nano", num_classes=3, num_queries=4, class_names=NAMES, **layers)
    variables = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 64, 64, 3)))
    found = zoo.predict(model, variables, PIXELS)
    assert found.names == tuple(NAMES[label] for label in found.labels)
    fields = {"depth": 1, "base_dim": 4, "padding": "same"}
    model = zoo.create("unet", **fields, num_classes=3, class_names=NAMES)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    assert zoo.predict(model, variables, PIXELS).names == NAMES
