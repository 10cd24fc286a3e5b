from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from zoo.data import normalize
from zoo.data.transforms import (
    center_crop,
    random_box,
    random_erase,
    random_flip,
    random_resized_crop,
    resize,
    resize_and_crop,
)

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "data_transforms.npz")
PICTURE = GOLDEN["picture"]
CROP = ((0.08, 1.0), (3 / 4, 4 / 3))


def named(prefix):
    return [name for name in GOLDEN.files if name.startswith(prefix)]


def rngs(count):
    return [np.random.default_rng(i) for i in range(count)]


@pytest.mark.parametrize("name", named("eval/"))
def test_evaluation_equals_timm(name):
    height, width, fraction, filter_ = name.removeprefix("eval/").split(",")
    ours = resize_and_crop(PICTURE, (int(height), int(width)), float(fraction), filter_)
    np.testing.assert_array_equal(ours, GOLDEN[name])


def test_boxes_are_distributed_as_torchvisions():
    ours = np.asarray([random_box(26, 37, *CROP, rng) for rng in rngs(500)])
    for axis in range(4):
        assert stats.ks_2samp(ours[:, axis], GOLDEN["boxes"][:, axis]).pvalue > 1e-3
    areas = [values[:, 2].astype(int) * values[:, 3] for values in (ours, GOLDEN["boxes"])]
    assert stats.ks_2samp(*areas).pvalue > 1e-3


def test_boxes_lie_inside():
    for rng in rngs(300):
        top, left, h, w = random_box(26, 37, (0.5, 1.0), (0.5, 2.0), rng)
        assert 0 <= top <= 26 - h
        assert 0 <= left <= 37 - w
        assert h * w > 0.4 * 26 * 37


@pytest.mark.parametrize(("name", "size"), [("wide", (10, 90)), ("tall", (90, 10))])
def test_extreme_images_fall_back_to_torchvisions_central_box(name, size):
    box = random_box(*size, (0.9, 1.0), CROP[1], np.random.default_rng(0))
    assert box == tuple(GOLDEN[f"central/{name}"])


def test_one_pixel_survives_every_transform():
    pixel = np.full((1, 1, 3), 200, np.uint8)
    crop = random_resized_crop(pixel, (4, 6), *CROP, "bicubic", np.random.default_rng(0))
    assert crop.shape == (4, 6, 3)
    assert (crop == 200).all()
    assert (resize_and_crop(pixel, (4, 4), 0.875, "bicubic") == 200).all()


@pytest.mark.parametrize("filter_", ["bilinear", "bicubic"])
def test_training_crop_is_near_pillows(filter_):
    whole = ((1.0, 1.0), (300 / 210, 300 / 210))
    large = np.asarray(Image.fromarray(PICTURE).resize((300, 210), Image.Resampling.BICUBIC))
    for size in ((60, 80), (400, 600)):
        ours = random_resized_crop(large, size, *whole, filter_, np.random.default_rng(0))
        difference = np.abs(ours.astype(int) - resize(large, size, filter_))
        assert difference.mean() < 1.0


def test_shrinking_to_a_half_or_less_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    whole = ((1.0, 1.0), (1.0, 1.0))
    crop = random_resized_crop(stripes, (16, 16), *whole, "bilinear", np.random.default_rng(0))
    assert np.abs(crop.astype(int) - 127).max() <= 2


def test_center_crop_pads_what_is_missing():
    crop = center_crop(np.ones((3, 8, 3), np.uint8), (6, 4))
    np.testing.assert_array_equal(crop[..., 0], np.pad(np.ones((3, 4)), ((1, 2), (0, 0))))


def test_flip_is_a_mirror_half_the_time():
    flipped = [random_flip(PICTURE, rng) for rng in rngs(200)]
    mirrored = sum(np.array_equal(image, PICTURE[:, ::-1]) for image in flipped)
    same = sum(np.array_equal(image, PICTURE) for image in flipped)
    assert mirrored + same == 200
    assert 70 < same < 130


def test_erased_boxes_are_distributed_as_timms():
    grey, spans = np.full((26, 37, 3), 7, np.uint8), []
    for rng in rngs(500):
        # The noise is far above 255, so all pixels of an erased box are white.
        changed = (random_erase(grey, 1.0, (9.0,) * 3, (0.1,) * 3, rng) == 255).all(-1)
        rows, columns = changed.any(1), changed.any(0)
        np.testing.assert_array_equal(changed, rows[:, None] & columns)
        spans.append((rows.sum(), columns.sum()))
    assert (grey == 7).all()
    for axis in (0, 1):
        ours = np.asarray(spans)[:, axis]
        assert stats.ks_2samp(ours, GOLDEN["erased"][:, axis]).pvalue > 1e-3


def test_erasing_leaves_the_datas_own_noise():
    rng = np.random.default_rng(0)
    mean, std = (0.5, 0.4, 0.3), (0.1, 0.05, 0.1)
    image = random_erase(np.zeros((400, 400, 3), np.uint8), 1.0, mean, std, rng)
    noise = image[(image > 0).any(-1)] / 255
    np.testing.assert_allclose(noise.mean(0), mean, atol=0.01)
    np.testing.assert_allclose(noise.std(0), std, atol=0.01)
    untouched = [random_erase(PICTURE, 0.25, mean, std, rng) is PICTURE for rng in rngs(200)]
    assert 125 < sum(untouched) < 175


def test_normalize():
    images = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours = jax.jit(lambda x: normalize(x, mean, std))(images)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, (images / 255.0 - mean) / std, atol=1e-6)
