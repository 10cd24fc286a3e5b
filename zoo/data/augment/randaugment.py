"""RandAugment (arXiv 1909.13719) in two styles over the same Pillow operations.

``timm`` equals timm's ``rand-mM-nN-mstdS-inc1``: 15 operations, each applied with probability 1/2,
in their increasing forms (a larger magnitude changes more). Pixels that a geometric operation
uncovers get the data's mean colour. Posterizing to 0 bits, for which Pillow 13 raises an error,
makes the picture black.

``big_vision`` follows big_vision's ``randaug(N,M)``: 16 operations, always applied, in their older
forms. In these forms, Posterize and Solarize change less with a larger magnitude: by their
definition Solarize changes nothing from 10 on, and Posterize nothing from 20 on. Uncovered pixels
become grey, 128; geometric operations take the nearest pixel. Contrast blends with a grey of
(number of pixels) / 256: big_vision computes this, although the mean was intended. Deviations:
Color and Sharpness round as Pillow does, so that a pixel may differ by one level; shears may differ
by up to half their slope in pixels; Solarize's threshold can be 256 and more, where a TensorFlow
that wraps it to a byte uses 0 for 256.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from zoo.data.transforms import PIL_FILTERS, HostImage
from zoo.types import Interpolation

RandAugmentStyle = Literal["timm", "big_vision"]


class Level(NamedTuple):
    """How one operation is applied.

    Attributes:
        strength: Magnitude over 10; at most 1 for timm, may be more for big_vision.
        sign: 1 or -1, the direction.
        fill: Colour of uncovered pixels, 0..255.
        resample: Pillow's filter of the geometric operations.
        centre: Centre of a box: x and y as shares of width and height, in 0..1 without 1.
    """

    strength: float
    sign: int
    fill: tuple[int, ...]
    resample: Image.Resampling
    centre: tuple[float, float] = (0.5, 0.5)

    @property
    def signed(self) -> float:
        """Strength with its sign."""
        return self.strength * self.sign


def _affine(image: Image.Image, matrix: tuple[float, ...], level: Level) -> Image.Image:
    """Output pixel (x, y) is the input pixel at (a x + b y + c, d x + e y + f)."""
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, level.resample, fillcolor=level.fill
    )


def _shear_x(image: Image.Image, slope: float, level: Level) -> Image.Image:
    return _affine(image, (1, slope, 0, 0, 1, 0), level)


def _shear_y(image: Image.Image, slope: float, level: Level) -> Image.Image:
    return _affine(image, (1, 0, 0, slope, 1, 0), level)


def _translate(image: Image.Image, x: float, y: float, level: Level) -> Image.Image:
    return _affine(image, (1, 0, x, 0, 1, y), level)


def _rotate(image: Image.Image, degrees: float, level: Level) -> Image.Image:
    return image.rotate(degrees, resample=level.resample, fillcolor=level.fill)


def _posterize(image: Image.Image, bits: int) -> Image.Image:
    """Keeps only the upper `bits` bits; for 0 the picture is black."""
    mask = 256 - 2 ** max(8 - bits, 0)
    return image.point([i & mask for i in range(256)] * 3)


def _solarize(image: Image.Image, threshold: int) -> Image.Image:
    return ImageOps.solarize(image, threshold)  # inverts values from the threshold on


def _solarize_add(image: Image.Image, added: int) -> Image.Image:
    return image.point([min(i + added, 255) if i < 128 else i for i in range(256)] * 3)


def _enhance(enhancer: type[Any], image: Image.Image, factor: float) -> Image.Image:
    return enhancer(image).enhance(factor)


def _contrast_to_size(image: Image.Image, factor: float) -> Image.Image:
    grey = min(image.width * image.height // 256, 255)
    return Image.blend(Image.new("RGB", image.size, (grey,) * 3), image, factor)


def _cutout(image: Image.Image, reach: int, level: Level) -> Image.Image:
    """Fills a square with sides of 2 * `reach` around the level's centre, clipped to the image."""
    x, y = int(level.centre[0] * image.width), int(level.centre[1] * image.height)
    image = image.copy()
    image.paste(level.fill, (x - reach, y - reach, x + reach, y + reach))
    return image


Operation = Callable[[Image.Image, Level], Image.Image]


def _timm_factor(level: Level) -> float:
    return max(0.1, 1 + 0.9 * level.signed)


def _big_vision_factor(level: Level) -> float:
    return 0.1 + 1.8 * level.strength


TIMM: dict[str, Operation] = {
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Invert": lambda image, _: ImageOps.invert(image),
    "Rotate": lambda image, level: _rotate(image, 30 * level.signed, level),
    "Posterize": lambda image, level: _posterize(image, 4 - int(4 * level.strength)),
    "Solarize": lambda image, level: _solarize(image, 256 - int(256 * level.strength)),
    "SolarizeAdd": lambda image, level: _solarize_add(image, int(110 * level.strength)),
    "Color": lambda image, level: _enhance(ImageEnhance.Color, image, _timm_factor(level)),
    "Contrast": lambda image, level: _enhance(ImageEnhance.Contrast, image, _timm_factor(level)),
    "Brightness": lambda image, level: _enhance(
        ImageEnhance.Brightness, image, _timm_factor(level)
    ),
    "Sharpness": lambda image, level: _enhance(ImageEnhance.Sharpness, image, _timm_factor(level)),
    "ShearX": lambda image, level: _shear_x(image, 0.3 * level.signed, level),
    "ShearY": lambda image, level: _shear_y(image, 0.3 * level.signed, level),
    "TranslateX": lambda image, level: _translate(
        image, 0.45 * level.signed * image.width, 0, level
    ),
    "TranslateY": lambda image, level: _translate(
        image, 0, 0.45 * level.signed * image.height, level
    ),
}

# The operations that are not listed here are the same as timm's.
BIG_VISION: dict[str, Operation] = TIMM | {
    "Posterize": lambda image, level: _posterize(image, int(4 * level.strength)),
    "Solarize": lambda image, level: _solarize(image, int(256 * level.strength)),
    "Color": lambda image, level: _enhance(ImageEnhance.Color, image, _big_vision_factor(level)),
    "Contrast": lambda image, level: _contrast_to_size(image, _big_vision_factor(level)),
    "Brightness": lambda image, level: _enhance(
        ImageEnhance.Brightness, image, _big_vision_factor(level)
    ),
    "Sharpness": lambda image, level: _enhance(
        ImageEnhance.Sharpness, image, _big_vision_factor(level)
    ),
    "TranslateX": lambda image, level: _translate(image, 100 * level.signed, 0, level),
    "TranslateY": lambda image, level: _translate(image, 0, 100 * level.signed, level),
    "Cutout": lambda image, level: _cutout(image, int(40 * level.strength), level),
}

# timm clips magnitudes above 10; big_vision names 30 as the largest useful magnitude.
LARGEST_MAGNITUDE: dict[RandAugmentStyle, float] = {"timm": 10, "big_vision": 30}


def randaugment(
    image: HostImage,
    style: RandAugmentStyle,
    layers: int,
    magnitude: float,
    std: float,
    mean: tuple[int, ...],
    interpolation: Interpolation,
    rng: np.random.Generator,
) -> HostImage:
    """Applies random operations, drawn with replacement.

    Args:
        image: The image.
        style: Whose operations are used; see the module's docstring.
        layers: How many operations are drawn.
        magnitude: Mean strength, from 0 to the style's `LARGEST_MAGNITUDE`.
        std: Standard deviation of the strength, drawn for each operation and clipped to the range.
        mean: The data's mean colour, 0..255 a channel, which fills uncovered pixels (timm only).
        interpolation: Filter of the geometric operations (timm only).
        rng: Source of randomness.
    """
    if style == "timm":
        operations, probability, fill, resample = TIMM, 0.5, mean, PIL_FILTERS[interpolation]
    else:
        operations, probability = BIG_VISION, 1.0
        fill, resample = (128, 128, 128), Image.Resampling.NEAREST
    names, largest = tuple(operations), LARGEST_MAGNITUDE[style]
    picture = Image.fromarray(image)
    for _ in range(layers):
        name, applied = names[rng.integers(len(names))], rng.random() < probability
        strength = min(max(rng.normal(magnitude, std), 0.0), largest) / 10
        sign = 1 if rng.random() < 0.5 else -1
        centre = (rng.random(), rng.random())
        if applied:
            picture = operations[name](picture, Level(strength, sign, fill, resample, centre))
    return np.asarray(picture)
