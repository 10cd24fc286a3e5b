import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import linen as nn
from PIL import Image

import zoo
from zoo.data.transforms import normalize, resize_and_crop
from zoo.losses.reconstruction import patch_statistics
from zoo.models.detr import DetrOutput
from zoo.ops.palette import draw_objects, draw_segments, overlay, palette
from zoo.ops.patches import patchify
from zoo.ops.tiles import Tiling
from zoo.predict import (
    PixelPredictions,
    make_tiling,
    predict_classes,
    predict_detections,
    predict_pixels,
    predict_tiled,
    reconstruct,
)
from zoo.types import InputError


def test_the_likeliest_classes_with_their_probabilities():
    logits = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    found = jax.jit(predict_classes)(jnp.asarray(logits))
    order = np.argsort(-logits, axis=1)[:, :5]
    np.testing.assert_array_equal(found.classes, order)
    probabilities = scipy.special.softmax(logits, axis=1)
    np.testing.assert_allclose(
        found.scores, np.take_along_axis(probabilities, order, axis=1), rtol=1e-5
    )


def test_fewer_classes_than_asked_for_and_ties():
    found = predict_classes(jnp.zeros((1, 3), jnp.bfloat16))
    np.testing.assert_array_equal(found.classes, [[0, 1, 2]])
    np.testing.assert_allclose(found.scores, 1 / 3, rtol=1e-6)
    assert found.scores.dtype == jnp.float32


def test_unlikely_classes_are_ranked_though_their_probabilities_are_zero():
    found = predict_classes(jnp.array([[0.0, -104.5, -100.0, -99.0, -98.5, -97.0, -96.0]]))
    np.testing.assert_array_equal(found.classes, [[0, 6, 5, 4, 3]])


def test_the_likeliest_class_of_pixels():
    logits = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    found = jax.jit(predict_pixels)(jnp.asarray(logits))
    np.testing.assert_array_equal(found.labels, logits.argmax(-1))
    probabilities = scipy.special.softmax(logits, axis=-1).max(-1)
    np.testing.assert_allclose(found.scores, probabilities, rtol=1e-5)
    assert found.labels.dtype == jnp.uint8


def test_windows_of_a_model():
    same = zoo.create("unet_nano")
    assert make_tiling(same, (60, 64), 0.25) == Tiling((60, 64), 0, 15, 4)
    assert make_tiling(same, (4, 4), 0.75) == Tiling((4, 4), 0, 0, 4)
    assert make_tiling(zoo.create("unet"), (572, 600), 0.25) == Tiling((572, 604), 92, 0, 16)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_images_of_all_sizes_pass_in_order_through_batches_of_windows(batch_size):
    rng = np.random.default_rng(0)
    sizes = [(5, 9), (40, 33), (8, 8), (1, 1), (17, 64)]
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    seen = []

    def predict(windows):
        seen.append(len(windows))
        return PixelPredictions(windows[..., 0], windows[..., 1] / np.float32(255))

    results = list(predict_tiled(predict, images, Tiling((8, 12), 0, 2, 2), batch_size))
    assert len(results) == len(images) and set(seen) == {batch_size}
    for image, found in zip(images, results, strict=True):
        np.testing.assert_array_equal(found.labels, image[..., 0])
        np.testing.assert_array_equal(found.scores, image[..., 1] / np.float32(255))


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
        (np.zeros((4, 4, 3), np.float32), r"an image is uint8 \[h w 3\], this array float32"),
    ):
        with pytest.raises(InputError, match=message):
            zoo.predict(*segmenter, image)
    with pytest.raises(InputError, match="predict knows no Dense; it knows BackboneUNet, "):
        zoo.predict(nn.Dense(3), {}, np.zeros((4, 4, 3), np.uint8))


def test_detections_are_pixels_of_the_sizes_and_never_no_object():
    logits = jnp.log(jnp.array([[[0.1, 0.3, 0.6], [0.7, 0.2, 0.1]]]))
    boxes = jnp.array([[[0.5, 0.5, 1.0, 0.5], [0.25, 0.75, 0.5, 0.25]]])
    nothing = jnp.zeros((0, 1, 2, 3))
    output = DetrOutput(logits, boxes, nothing, jnp.zeros((0, 1, 2, 4)))
    found = jax.jit(predict_detections)(output, jnp.array([[480, 640]]))
    np.testing.assert_allclose(found.boxes, [[[0, 120, 640, 360], [0, 300, 320, 420]]], rtol=1e-6)
    np.testing.assert_allclose(found.scores, [[0.3, 0.7]], rtol=1e-6)
    np.testing.assert_array_equal(found.labels, [[1, 0]])
    assert found.labels.dtype == jnp.int32


def test_a_perfect_prediction_is_the_image():
    images = jax.random.normal(jax.random.key(0), (2, 8, 12, 3)) + 1
    patches = patchify(images, 4)
    visible = jnp.arange(6) < jnp.array([[2], [2]])
    found = reconstruct(patches, visible, images, norm_pix_loss=False)
    np.testing.assert_array_equal(found, images)
    mean, deviation = patch_statistics(patches)
    normalised = (patches - mean) / deviation
    found = reconstruct(normalised, visible, images, norm_pix_loss=True)
    np.testing.assert_allclose(found, images, atol=1e-5)


def test_brightness_and_contrast_can_come_from_what_is_visible_alone():
    images = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
    images = images.at[:, 4:].multiply(7).at[:, 4:].add(30)  # the two hidden patches
    visible = jnp.array([[True, True, False, False]])
    shown = [
        reconstruct(jnp.ones((1, 4, 48)), visible, x, norm_pix_loss=True, statistics="visible")
        for x in (images, images.at[:, 4:].set(0))
    ]
    np.testing.assert_array_equal(*shown)
    mean, deviation = patch_statistics(patchify(images, 4))
    expected = mean[0, :2].mean() + deviation[0, :2].mean()
    np.testing.assert_allclose(shown[0], expected, rtol=1e-5)


def test_detections_of_one_image_are_those_of_the_batch():
    model = zoo.create("detr_nano", num_classes=3, num_queries=5)
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    how = zoo.preprocessing("detr_nano")
    variables = model.init(jax.random.key(1), jnp.zeros((1, 64, 64, 3)))
    found = zoo.predict(model, variables, image)
    size = np.array([[48, 64]])  # already of the model's size; 48 rows are padded to 64
    padded = np.zeros((1, 64, 64, 3), np.uint8)
    padded[0, :48] = image
    valid = np.zeros((1, 64, 64), bool)
    valid[0, :48] = True
    batch = predict_detections(
        model.apply(
            variables, normalize(jnp.asarray(padded), how.mean, how.std), jnp.asarray(valid)
        ),
        jnp.asarray(size),
    )
    order = np.argsort(-np.asarray(batch.scores[0]), kind="stable")
    assert (np.diff(found.scores) <= 0).all()
    np.testing.assert_allclose(found.scores, batch.scores[0][order], rtol=1e-5)
    np.testing.assert_allclose(found.boxes, batch.boxes[0][order], rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found.labels, batch.labels[0][order])


def test_the_picture_of_detections_has_their_boxes_names_and_scores(monkeypatch):
    image = np.zeros((48, 64, 3), np.uint8)
    model = zoo.create("detr_nano", num_classes=3, num_queries=4)
    variables = model.init(jax.random.key(1), jnp.zeros((1, 64, 64, 3)))
    head = variables["params"]["head"]
    head["kernel"], head["bias"] = head["kernel"] * 0, jnp.array([0.0, 0.0, 9.0, 0.0])
    asked = []
    monkeypatch.setattr(
        sys.modules["zoo.predict"],  # zoo.predict is the function
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


def test_objects_are_drawn_at_the_size_of_a_large_image():
    image = np.full((400, 500, 3), 7, np.uint8)
    drawn = draw_objects(image, np.array([[100.0, 200.0, 300.0, 350.0]]), np.array([0]), ["a"])
    assert drawn.shape == image.shape and (image == 7).all()
    colour = palette(2)[1]
    for row, column in ((210, 100), (349, 200), (300, 299)):
        assert (drawn[row, column] == colour).all()
    assert (drawn[220:340, 110:290] == 7).all() and (drawn[:150] == 7).all()


def test_masks_become_segments_where_things_are_named():
    maps = {"num_blocks": (1, 1, 1, 1), "stage_dims": (8, 8, 8, 8), "stem_dim": 8, "norm": "batch"}
    fields = {"backbone_fields": maps, "hidden_dim": 64, "num_queries": 4, "masks": True}
    model = zoo.create("detr_nano", num_classes=3, **fields)
    variables = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 64, 64, 3)))
    head = variables["params"]["head"]
    head["kernel"], head["bias"] = head["kernel"] * 0, jnp.array([0.0, 9.0, 0.0, 0.0])
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    found = zoo.predict(model, variables, image, class_names=("sky", "cat", "sea"), things={1})
    how = zoo.preprocessing("detr_nano")
    output = jax.jit(model.apply)(variables, normalize(jnp.asarray(image[None]), how.mean, how.std))
    logits = np.asarray(jax.image.resize(output.masks[0], (4, 64, 64), "linear"))
    queries = np.unique(logits.argmax(axis=0))  # the others own nothing
    assert len(queries) == found.ids.max() > 1
    owned = np.take_along_axis(logits, queries[found.ids - 1][None], axis=0)[0]
    # The masks of drawn weights are nearly the same: where two are equal to rounding, either owns.
    np.testing.assert_allclose(owned, logits.max(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.labels, np.ones(found.ids.max()))
    np.testing.assert_allclose(found.scores, 0.99963, atol=1e-5)
    assert found.overlay.shape == (320, 320, 3)
    one = zoo.predict(model, variables, image, things=())  # four times the same stuff
    assert (one.ids == 1).all() and one.labels.tolist() == [1]


def test_things_need_masks_of_objects(segmenter):
    image = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(
        InputError, match="things are for a detector with masks; this UNet has none"
    ):
        zoo.predict(*segmenter, image, things={0})


def test_segments_are_drawn_with_lines_between_them_and_their_texts():
    image, ids = np.full((400, 600, 3), 100, np.uint8), np.ones((400, 600), np.int32)
    ids[:, 300:], ids[:50] = 2, 0
    drawn = draw_segments(image, ids, np.array([4, 0]), ["left", "right"])
    assert (drawn[:49] == 100).all()  # belongs to nothing
    assert (drawn[60:, 299] == 255).all() and (drawn[49] == 255).all()
    blue, red = palette(6)[5], palette(2)[1]
    np.testing.assert_array_equal(drawn[390, 10], np.rint(50 + blue / 2))
    np.testing.assert_array_equal(drawn[390, 590], np.rint(50 + red / 2))
    for colour, columns in ((blue, slice(0, 299)), (red, slice(300, 600))):
        rows, _ = np.nonzero((drawn[:, columns] == colour).all(-1))  # of the text's ground
        assert 150 < rows.min() and rows.max() < 300
    nothing = draw_segments(image, ids * 0, np.zeros(0, int), [])
    np.testing.assert_array_equal(nothing, image)
