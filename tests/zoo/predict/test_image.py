import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

import zoo
from zoo.data.transforms import normalize, resize_and_crop
from zoo.ops.palette import draw_objects, overlay, palette
from zoo.predict import detect, predict_classes
from zoo.types import InputError

ONE_LAYER = {"num_encoder_layers": 1, "num_decoder_layers": 1}


@pytest.fixture(scope="module")
def segmenter():
    """A tiny U-Net."""
    model = zoo.create("unet", depth=1, base_dim=4, num_classes=3, padding="same")
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    kernel = variables["params"]["head"]["kernel"]
    variables["params"]["head"]["kernel"] = jax.random.normal(jax.random.key(1), kernel.shape)
    return model, variables


def test_zoo_predict_segments_an_image_of_any_size(segmenter, tmp_path):
    model, variables = segmenter
    image = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    found = zoo.predict(model, variables, image)
    assert found.labels.shape == found.scores.shape == (21, 34)
    np.testing.assert_array_equal(found.overlay, overlay(image, found.labels))
    mirrored = np.pad(image, ((0, 1), (0, 0), (0, 0)), mode="reflect")
    how = zoo.preprocessing("unet")
    normalised = normalize(jnp.asarray(mirrored[None]), how.mean, how.std)
    logits = jax.jit(model.apply)(variables, normalised)
    np.testing.assert_array_equal(found.labels, logits[0, :21].argmax(-1))
    assert len(np.unique(found.labels)) > 1

    Image.fromarray(image).save(tmp_path / "image.png")
    for same in (tmp_path / "image.png", str(tmp_path / "image.png"), Image.fromarray(image)):
        np.testing.assert_array_equal(zoo.predict(model, variables, same).labels, found.labels)


def test_zoo_predict_of_sixteen_bits_is_that_of_the_upper_byte(segmenter):
    values = np.random.default_rng(0).integers(0, 65536, (21, 34), dtype=np.uint16)
    expected = zoo.predict(*segmenter, np.stack([(values >> 8).astype(np.uint8)] * 3, axis=-1))
    for dtype in (np.uint16, np.int32):
        found = zoo.predict(*segmenter, Image.fromarray(values.astype(dtype)))
        np.testing.assert_array_equal(found.labels, expected.labels)
    with pytest.raises(InputError, match=r"mode F, .* no known range"):
        zoo.predict(*segmenter, Image.fromarray(values.astype(np.float32)))


def test_zoo_predict_classifies():
    model = zoo.create("vit_nano_patch4_32", num_classes=7, num_layers=0)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    kernel = variables["params"]["head"]["kernel"]
    variables["params"]["head"]["kernel"] = jax.random.normal(jax.random.key(1), kernel.shape)
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    found = zoo.predict(model, variables, image)
    how = zoo.preprocessing("vit_nano_patch4_32")
    cropped = resize_and_crop(image, (32, 32), how.crop_fraction, how.interpolation)
    normalised = normalize(jnp.asarray(cropped[None]), how.mean, how.std)
    expected = predict_classes(jax.jit(model.apply)(variables, normalised))
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


def test_zoo_predict_says_what_it_cannot_do(segmenter):
    for image, message in (
        ("nowhere.jpg", r"nowhere\.jpg: cannot be read: No such file"),
        (np.zeros((4, 4, 3), np.float32), r"an image is uint8 \[h w 3\], not float32"),
    ):
        with pytest.raises(InputError, match=message):
            zoo.predict(*segmenter, image)
    with pytest.raises(InputError, match="predict knows no Dense; it knows BackboneUNet, "):
        zoo.predict(nn.Dense(3), {}, np.zeros((4, 4, 3), np.uint8))


def test_detections_of_one_image_are_those_of_the_batch():
    model = zoo.create("detr_nano", num_classes=3, num_queries=5, **ONE_LAYER)
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    how = zoo.preprocessing("detr_nano")
    variables = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 64, 64, 3)))
    found = zoo.predict(model, variables, image)
    size = np.array([[48, 64]])  # needs no resizing; 48 rows are padded to 64
    padded = np.zeros((1, 64, 64, 3), np.uint8)
    padded[0, :48] = image
    images = normalize(jnp.asarray(padded), how.mean, how.std)
    batch = jax.jit(detect, static_argnums=0)(
        model, variables, images, jnp.asarray(size), jnp.asarray(size)
    )
    order = np.argsort(-np.asarray(batch.scores[0]), kind="stable")
    assert (np.diff(found.scores) <= 0).all()
    np.testing.assert_allclose(found.scores, batch.scores[0][order], rtol=1e-5)
    np.testing.assert_allclose(found.boxes, batch.boxes[0][order], rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found.labels, batch.labels[0][order])


def test_a_detector_of_squashed_images_gets_them_at_its_own_size():
    """SSD: the aspect is not kept, there is no padding, and boxes are those of the image."""
    model = zoo.create("ssd_nano", num_classes=3)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    found = zoo.predict(model, variables, image)
    how = zoo.preprocessing("ssd_nano")
    squashed = resize_and_crop(image, (64, 64), 1.0, how.interpolation, "squash")
    batch = normalize(jnp.asarray(squashed[None]), how.mean, how.std)
    sizes = jnp.array([[64, 64]]), jnp.array([[60, 90]])
    expected = jax.jit(detect, static_argnums=0)(model, variables, batch, *sizes)
    count = int(expected.valid.sum())
    assert len(found.boxes) == count > 3
    np.testing.assert_allclose(found.boxes, expected.boxes[0, :count], rtol=1e-5, atol=1e-4)
    assert found.boxes[:, 2].max() > 64


def test_the_picture_of_detections_has_their_boxes_names_and_scores(monkeypatch):
    image = np.zeros((48, 64, 3), np.uint8)
    model = zoo.create("detr_nano", num_classes=3, num_queries=4, **ONE_LAYER)
    variables = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 64, 64, 3)))
    head = variables["params"]["head"]
    head["kernel"], head["bias"] = head["kernel"] * 0, jnp.array([0.0, 0.0, 9.0, 0.0])
    asked = []
    monkeypatch.setattr(
        sys.modules["zoo.predict.image"],  # zoo.predict is the function
        "draw_objects",
        lambda *shown: asked.append(shown) or draw_objects(*shown),
    )
    found = zoo.predict(model, variables, image, class_names=("cat", "dog", "bird"))
    assert asked[0][3] == ["bird 1.00"] * 4
    assert found.overlay.shape == (48 * 7, 64 * 7, 3)
    colour = palette(4)[3]
    left, top, *_ = np.rint(found.boxes[0] * 7).astype(int).clip(0)
    assert (found.overlay == colour).all(-1).any()
    assert (found.overlay[top : top + 2, left : left + 2] == colour).all(-1).any()
    zoo.predict(model, variables, image)
    assert asked[1][3] == ["2 1.00"] * 4


def test_masks_become_segments_where_things_are_named():
    maps = {"num_blocks": (1, 1, 1, 1), "stage_dims": (8, 8, 8, 8), "stem_dim": 8, "norm": "batch"}
    fields = {"backbone_fields": maps, "hidden_dim": 64, "num_queries": 4, "masks": True}
    fields |= ONE_LAYER
    model = zoo.create("detr_nano", num_classes=3, **fields)
    variables = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 64, 64, 3)))
    head = variables["params"]["head"]
    head["kernel"], head["bias"] = head["kernel"] * 0, jnp.array([0.0, 9.0, 0.0, 0.0])
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    found = zoo.predict(model, variables, image, class_names=("sky", "cat", "sea"), things={1})
    how = zoo.preprocessing("detr_nano")
    output = jax.jit(model.apply)(variables, normalize(jnp.asarray(image[None]), how.mean, how.std))
    logits = np.asarray(jax.image.resize(output.masks[0], (4, 64, 64), "linear"))
    queries = np.unique(logits.argmax(axis=0))  # the other queries have no pixels
    assert len(queries) == found.ids.max() > 1
    owned = np.take_along_axis(logits, queries[found.ids - 1][None], axis=0)[0]
    # Masks of random weights are nearly equal: if two differ only by rounding, either may win.
    np.testing.assert_allclose(owned, logits.max(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.labels, np.ones(found.ids.max()))
    np.testing.assert_allclose(found.scores, 0.99963, atol=1e-5)
    assert found.overlay.shape == (320, 320, 3)
    one = zoo.predict(model, variables, image, things=())  # four masks of the same stuff
    assert (one.ids == 1).all() and one.labels.tolist() == [1]


def test_things_need_masks_of_objects(segmenter):
    image = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(
        InputError, match="things are for a detector with masks; this UNet has none"
    ):
        zoo.predict(*segmenter, image, things={0})
