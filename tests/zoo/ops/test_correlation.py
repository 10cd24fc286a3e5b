import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from zoo.ops.correlation import normalised_cross_correlation
from zoo.types import InputError

PHOTO = load_sample_image("china.jpg")  # a sky of little contrast above a building
NCC = jax.jit(normalised_cross_correlation, static_argnames="zero_mean")


def score(image, template, **kwargs):
    """All positions of one template in one image."""
    arrays = (np.asarray(x, np.float32).reshape(1, *x.shape[:2], -1) for x in (image, template))
    return np.asarray(NCC(*map(jnp.asarray, arrays), **kwargs))[0, ..., 0]


def definition(image, template, *, zero_mean=True):
    """In float64, window by window."""
    image, template = (x.reshape(*x.shape[:2], -1).astype(np.float64) for x in (image, template))
    p, q = template.shape[:2]
    found = np.zeros((image.shape[0] - p + 1, image.shape[1] - q + 1))
    if zero_mean:
        template = template - template.mean((0, 1))
    for row, column in np.ndindex(found.shape):
        window = image[row : row + p, column : column + q]
        limit = min(0.5, 1.2e-6 * (window**2).sum()) if zero_mean else 0
        if zero_mean:
            window = window - window.mean((0, 1))
        scale = np.sqrt((window**2).sum() * (template**2).sum())
        if (window**2).sum() > limit and scale > 0:
            found[row, column] = (window * template).sum() / scale
    return found


@pytest.mark.parametrize("zero_mean", [True, False])
@pytest.mark.parametrize("shape", [(60, 70, 3), (41, 97)])
def test_equals_the_definition(zero_mean, shape):
    """Patches of one colour make windows without variance. Rounding in float32 allows 2e-5."""
    rng = np.random.default_rng(len(shape))
    image = rng.integers(0, 256, shape, np.uint8)
    image[5:30, 8:33] = rng.integers(0, 256, shape[2:])
    image[10:16, 50:] = 0
    template = image[20:27, 25:36]
    found = score(image, template, zero_mean=zero_mean)
    expected = definition(image, template, zero_mean=zero_mean)
    assert (expected == 0).any() == zero_mean
    np.testing.assert_array_equal(found[expected == 0], 0)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.unravel_index(found.argmax(), found.shape) == (20, 25)


@pytest.mark.parametrize("scale", [1, 255])
@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize(
    ("method", "zero_mean"), [(cv2.TM_CCOEFF_NORMED, True), (cv2.TM_CCORR_NORMED, False)]
)
def test_equals_opencv_on_a_photo(method, zero_mean, colour, scale):
    """At every position, within 2e-4: in the sky, where contrast is low, OpenCV is off by 1.3e-4.

    There, at the top, ours is within 2e-5 of the definition.
    """
    photo = PHOTO if colour else cv2.cvtColor(PHOTO, cv2.COLOR_RGB2GRAY)
    photo = photo if scale == 1 else photo.astype(np.float32) / scale
    template = photo[100:140, 200:233]
    found = score(photo, template, zero_mean=zero_mean)
    expected = cv2.matchTemplate(photo, template, method)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    sky = definition(photo[:45, 400:], template, zero_mean=zero_mean)
    np.testing.assert_allclose(found[: len(sky), 400:], sky, atol=2e-5)
    assert found.max() == found[100, 200] == pytest.approx(1, abs=1e-6)


def test_a_megapixel_of_low_contrast():
    """Noise of +-2 far from the mean: the squares add up to 3e10, with seven digits in float32."""
    rng = np.random.default_rng(0)
    image = rng.integers(248, 253, (1000, 1050), np.uint8)
    image[:500] //= 4
    template = image[980:992, 1030:1045]
    found = score(image, template)
    for rows, columns in ((slice(0, 20), slice(0, 30)), (slice(975, 1000), slice(1020, 1050))):
        expected = definition(image[rows, columns], template)
        part = found[rows, columns][: expected.shape[0], : expected.shape[1]]
        np.testing.assert_allclose(part, expected, atol=1e-4)
    assert found.argmax() == 980 * found.shape[1] + 1030


def test_a_constant_template_matches_nothing():
    assert not score(PHOTO[:40, :50], np.full((6, 7, 3), 0.3)).any()
    assert not score(PHOTO[:40, :50], np.zeros((6, 7, 3)), zero_mean=False).any()


@pytest.mark.parametrize("size", [(1, 2), (1, 60), (50, 1), (50, 60)])
def test_any_size_of_template(size):
    image = PHOTO[200:250, 200:260]
    template = image[-size[0] :, -size[1] :]
    found = score(image, template)
    np.testing.assert_allclose(found, definition(image, template), atol=2e-5)
    assert found[-1, -1] == pytest.approx(1, abs=1e-6)


def test_templates_and_images_do_not_affect_each_other():
    images = jnp.stack([PHOTO[:30, :40], PHOTO[200:230, 100:140]])
    templates = jnp.stack([PHOTO[5:14, 9:20], PHOTO[210:219, 110:121], PHOTO[300:309, :11]])
    together = NCC(images, templates)
    assert together.shape == (2, 22, 30, 3)
    for i, t in np.ndindex(2, 3):
        np.testing.assert_allclose(together[i, ..., t], score(images[i], templates[t]), atol=1e-6)


def test_contrast_and_brightness_do_not_matter():
    image, template = PHOTO[150:200, 150:210], PHOTO[160:175, 170:190]
    np.testing.assert_allclose(score(image * 0.3 + 40, template), score(image, template), atol=1e-5)


def test_a_template_must_fit():
    with pytest.raises(InputError, match="templates of 9 x 4 px do not fit into images of 8 x 8"):
        normalised_cross_correlation(jnp.zeros((1, 8, 8, 3)), jnp.zeros((2, 9, 4, 3)))
