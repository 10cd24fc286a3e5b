"""timm's style compared with timm; big_vision's with its definitions, computed in numpy."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from zoo.data.augment.randaugment import BIG_VISION, LARGEST_MAGNITUDE, TIMM, Level, randaugment

GOLDEN = np.load(Path(__file__).parents[3] / "golden" / "data_transforms.npz")
PICTURE, SMALL = GOLDEN["picture"], GOLDEN["small"]
GREY = (128, 128, 128)


def named(prefix):
    return [name for name in GOLDEN.files if name.startswith(prefix)]


def rngs(count):
    return [np.random.default_rng(i) for i in range(count)]


def big_vision(operation, magnitude, sign=1, image=PICTURE, centre=(0.5, 0.5)):
    level = Level(magnitude / 10, sign, GREY, Image.Resampling.NEAREST, centre)
    return np.asarray(BIG_VISION[operation](Image.fromarray(image), level))


def blended(degenerate, factor, image=PICTURE):
    mixture = degenerate + factor * (image.astype(np.float64) - degenerate)
    return np.clip(mixture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", named("randaugment/"))
def test_operations_equal_timm(name):
    operation, magnitude, sign = name.removeprefix("randaugment/").split(",")
    level = Level(float(magnitude) / 10, int(sign), (124, 116, 104), Image.Resampling.BICUBIC)
    ours = TIMM[operation](Image.fromarray(SMALL), level)
    np.testing.assert_array_equal(np.asarray(ours), GOLDEN[name])


def test_both_have_all_operations():
    timms = {name.split("/")[1].split(",")[0] for name in named("randaugment/")}
    assert timms == set(TIMM)
    assert set(BIG_VISION) == timms | {"Cutout"}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("operations", "strengths"), [(TIMM, (0, 0.5, 1)), (BIG_VISION, (0, 0.5, 1, 1.5, 2, 3))]
)
def test_every_operation_works_at_every_strength(operations, strengths, sign):
    for name, operation in operations.items():
        for strength in strengths:
            for centre in ((0.0, 0.0), (0.99, 0.5)):
                level = Level(strength, sign, GREY, Image.Resampling.NEAREST, centre)
                result = np.asarray(operation(Image.fromarray(PICTURE), level))
                assert (result.shape, result.dtype) == (PICTURE.shape, np.uint8), name


def test_timm_posterizes_to_nothing_at_full_strength():
    level = Level(1.0, 1, GREY, Image.Resampling.NEAREST)
    assert not np.asarray(TIMM["Posterize"](Image.fromarray(PICTURE), level)).any()


@pytest.mark.parametrize(("magnitude", "bits"), [(0, 0), (5, 2), (10, 4), (15, 6), (30, 8)])
def test_big_vision_posterize(magnitude, bits):
    wanted = PICTURE.astype(int) >> (8 - bits) << (8 - bits)
    np.testing.assert_array_equal(big_vision("Posterize", magnitude), wanted)


@pytest.mark.parametrize(("magnitude", "threshold"), [(0, 0), (3, 76), (10, 256), (15, 384)])
def test_big_vision_solarize(magnitude, threshold):
    wanted = np.where(PICTURE.astype(int) < threshold, PICTURE, 255 - PICTURE)
    np.testing.assert_array_equal(big_vision("Solarize", magnitude), wanted)


@pytest.mark.parametrize(("magnitude", "added"), [(0, 0), (3, 33), (10, 110), (15, 165)])
def test_big_vision_solarize_add(magnitude, added):
    wanted = np.where(PICTURE < 128, np.minimum(PICTURE.astype(int) + added, 255), PICTURE)
    np.testing.assert_array_equal(big_vision("SolarizeAdd", magnitude), wanted)


FACTORS = [(0, 0.1), (5, 1.0), (10, 1.9), (15, 2.8)]


@pytest.mark.parametrize(("magnitude", "factor"), FACTORS)
def test_big_vision_enhancements(magnitude, factor):
    def near(operation, degenerate, levels):
        ours = big_vision(operation, magnitude).astype(int)
        assert np.abs(ours - blended(degenerate, factor)).max() <= levels

    near("Brightness", np.zeros(PICTURE.shape), 1)
    near("Contrast", np.full(PICTURE.shape, 26 * 37 // 256), 1)
    # Pillow rounds the grey and the smooth picture differently, by one level: this difference is
    # multiplied by |1 - factor|.
    grey = np.floor(PICTURE @ np.array([0.2989, 0.5870, 0.1140]) + 0.5)
    near("Color", np.repeat(grey[..., None], 3, axis=2), 1 + np.ceil(abs(1 - factor)))
    smooth = PICTURE.astype(float)
    window = np.lib.stride_tricks.sliding_window_view(smooth, (3, 3), axis=(0, 1))
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    smooth[1:-1, 1:-1] = np.floor((window * kernel).sum((-1, -2)))
    near("Sharpness", smooth, 1 + np.ceil(abs(1 - factor)))


@pytest.mark.parametrize(("side", "grey"), [(224, 196), (400, 255)])
def test_big_vision_contrast_blends_with_the_number_of_pixels(side, grey):
    image = np.full((side, side, 3), 250, np.uint8)
    wanted = np.clip(int(grey + 0.1 * (250 - grey)), 0, 255)
    np.testing.assert_allclose(big_vision("Contrast", 0, image=image), wanted, atol=1)


@pytest.mark.parametrize("operation", ["AutoContrast", "Equalize", "Invert"])
def test_operations_without_a_level(operation):
    wanted = getattr(ImageOps, operation.lower())(Image.fromarray(PICTURE))
    for magnitude in (0, 15):
        np.testing.assert_array_equal(big_vision(operation, magnitude), wanted)


def sampled(x, y, image):
    """The nearest pixels to coordinates in which pixel centres are integers; grey outside."""
    height, width = image.shape[:2]
    x, y = np.floor(x + 0.5).astype(int), np.floor(y + 0.5).astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = image[y.clip(0, height - 1), x.clip(0, width - 1)]
    return np.where(inside[..., None], found, 128)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("operation", "magnitude"),
    [
        (operation, magnitude)
        for operation in ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
        for magnitude in (0, 3, 10, 15)
    ],
)
def test_big_vision_geometry(operation, magnitude, sign):
    image = np.asarray(Image.fromarray(PICTURE).resize((201, 181)))
    y, x = np.mgrid[:181, :201].astype(float)
    angle, slope = np.deg2rad(3 * magnitude) * sign, 0.03 * magnitude * sign
    u, v = x - 100, y - 90  # from the centre
    there = {
        "Rotate": (
            100 + np.cos(angle) * u - np.sin(angle) * v,
            90 + np.sin(angle) * u + np.cos(angle) * v,
        ),
        "ShearX": (x + slope * (y + 0.5), y),  # from the upper edge, not the centre of row 0
        "ShearY": (x, y + slope * (x + 0.5)),
        "TranslateX": (x + 10 * magnitude * sign, y),
        "TranslateY": (x, y + 10 * magnitude * sign),
    }[operation]
    ours = big_vision(operation, magnitude, sign, image)
    other = (ours != sampled(*there, image)).any(-1).mean()
    assert other < 0.01  # pixels halfway between two


@pytest.mark.parametrize(("magnitude", "reach"), [(0, 0), (1, 4), (10, 40), (15, 60)])
@pytest.mark.parametrize("centre", [(0, 0), (50, 120), (223, 199)])
def test_big_vision_cutout_is_a_clipped_square(magnitude, reach, centre):
    image = np.full((200, 224, 3), 7, np.uint8)
    x, y = centre
    wanted = image.copy()
    wanted[max(y - reach, 0) : y + reach, max(x - reach, 0) : x + reach] = 128
    shares = ((x + 0.5) / 224, (y + 0.5) / 200)
    np.testing.assert_array_equal(big_vision("Cutout", magnitude, 1, image, shares), wanted)
    assert (image == 7).all()


def test_cutout_is_centred_everywhere():
    image = np.full((64, 64, 3), 7, np.uint8)
    centres = []
    for rng in rngs(1500):
        cut = (randaugment(image, "big_vision", 1, 1.0, 0.0, GREY, "bicubic", rng) == 128).all(-1)
        # On an even picture only Cutout makes a grey square of 8 x 8; geometric operations make
        # whole edges grey.
        if cut.any() and not (cut.all(0).any() or cut.all(1).any()) and cut.sum() == 64:
            centres.append(np.argwhere(cut).mean(0))
    assert 50 < len(centres) < 120
    assert np.ptp(centres, axis=0).min() > 45


def changed(style, image, count, magnitude=9.0):
    return [
        not np.array_equal(
            randaugment(image, style, 1, magnitude, 0.0, (0, 0, 0), "bicubic", rng), image
        )
        for rng in rngs(count)
    ]


def test_timm_applies_what_it_draws_half_the_time_and_big_vision_always():
    assert 160 < sum(changed("timm", PICTURE, 400)) < 230  # some do not change this picture
    assert sum(changed("big_vision", PICTURE, 400)) > 360


@pytest.mark.parametrize("style", ["timm", "big_vision"])
def test_draws_repeat_at_both_ends_of_the_magnitudes(style):
    for magnitude in (0.0, LARGEST_MAGNITUDE[style]):
        for seed in range(60):
            first, again = (
                randaugment(
                    SMALL, style, 3, magnitude, 5.0, GREY, "bilinear", np.random.default_rng(seed)
                )
                for _ in range(2)
            )
            np.testing.assert_array_equal(first, again)


def test_the_drawn_strength_is_clipped():
    filter_ = Image.Resampling.BICUBIC
    extremes = {
        np.asarray(op(Image.fromarray(SMALL), Level(strength, sign, GREY, filter_))).tobytes()
        for op in TIMM.values()
        for strength in (0.0, 1.0)
        for sign in (1, -1)
    }
    for rng in rngs(60):
        image = randaugment(SMALL, "timm", 1, 5.0, 1e9, GREY, "bicubic", rng)
        assert image.tobytes() in extremes | {SMALL.tobytes()}


def test_pillow_smooths_as_sharpness_assumes():
    """Pillow's Sharpness, and so ours, blends with the result of Pillow's filter SMOOTH."""
    image = Image.fromarray(PICTURE)
    np.testing.assert_array_equal(
        ImageEnhance.Sharpness(image).enhance(0.0), image.filter(ImageFilter.SMOOTH)
    )
