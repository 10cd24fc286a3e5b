import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from zoo.losses.reconstruction import patch_statistics
from zoo.models.detection.detr.decode import decode
from zoo.models.detection.detr.model import DetrOutput
from zoo.ops.patches import patchify
from zoo.predict import predict_classes, predict_pixels, reconstruct


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


def test_detections_are_pixels_of_the_sizes_and_never_no_object():
    logits = jnp.log(jnp.array([[[0.1, 0.3, 0.6], [0.7, 0.2, 0.1]]]))
    boxes = jnp.array([[[0.5, 0.5, 1.0, 0.5], [0.25, 0.75, 0.5, 0.25]]])
    nothing = jnp.zeros((0, 1, 2, 3))
    output = DetrOutput(logits, boxes, nothing, jnp.zeros((0, 1, 2, 4)))
    found = jax.jit(decode)(output, jnp.array([[480, 640]]))
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
