"""RandAugment (arXiv 1909.13719) with timm's operations, in its increasing form.

Equals timm's ``rand-mM-nN-mstdS-inc1``: 15 operations drawn with replacement, each applied with
probability 1/2; what geometry uncovers is filled with the data's mean colour. All is Pillow's.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from zoo.data.transforms import PIL_FILTERS, HostImage
from zoo.types import Interpolation


class Level(NamedTuple):
    """How one operation is applied.

    Attributes:
        strength: Magnitude over 10, in 0..1.
        sign: 1 or -1, the direction.
        fill: Colour of uncovered pixels, 0..255.
        resample: Pillow's filter of the geometric operations.
    """

    strength: float
    sign: int
    fill: tuple[int, ...]
    resample: Image.Resampling


def _affine(image: Image.Image, matrix: tuple[float, ...], level: Level) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, level.resample, fillcolor=level.fill
    )


def _shear_x(image: Image.Image, level: Level) -> Image.Image:
    return _affine(image, (1, 0.3 * level.strength * level.sign, 0, 0, 1, 0), level)


def _shear_y(image: Image.Image, level: Level) -> Image.Image:
    return _affine(image, (1, 0, 0, 0.3 * level.strength * level.sign, 1, 0), level)


def _translate_x(image: Image.Image, level: Level) -> Image.Image:
    pixels = 0.45 * level.strength * level.sign * image.width
    return _affine(image, (1, 0, pixels, 0, 1, 0), level)


def _translate_y(image: Image.Image, level: Level) -> Image.Image:
    pixels = 0.45 * level.strength * level.sign * image.height
    return _affine(image, (1, 0, 0, 0, 1, pixels), level)


def _rotate(image: Image.Image, level: Level) -> Image.Image:
    degrees = 30 * level.strength * level.sign
    return image.rotate(degrees, resample=level.resample, fillcolor=level.fill)


def _posterize(image: Image.Image, level: Level) -> Image.Image:
    return ImageOps.posterize(image, 4 - int(4 * level.strength))


def _solarize(image: Image.Image, level: Level) -> Image.Image:
    return ImageOps.solarize(image, 256 - int(256 * level.strength))


def _solarize_add(image: Image.Image, level: Level) -> Image.Image:
    added = int(110 * level.strength)
    return image.point([i + added if i < 128 else i for i in range(256)] * 3)


def _enhance(enhancer: type) -> Callable[[Image.Image, Level], Image.Image]:
    def apply(image: Image.Image, level: Level) -> Image.Image:
        return enhancer(image).enhance(max(0.1, 1 + 0.9 * level.strength * level.sign))

    return apply


OPERATIONS: dict[str, Callable[[Image.Image, Level], Image.Image]] = {
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Invert": lambda image, _: ImageOps.invert(image),
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": _enhance(ImageEnhance.Color),
    "Contrast": _enhance(ImageEnhance.Contrast),
    "Brightness": _enhance(ImageEnhance.Brightness),
    "Sharpness": _enhance(ImageEnhance.Sharpness),
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
}


def randaugment(
    image: HostImage,
    layers: int,
    magnitude: float,
    std: float,
    fill: tuple[int, ...],
    interpolation: Interpolation,
    rng: np.random.Generator,
) -> HostImage:
    """Applies up to `layers` random operations.

    Args:
        image: The image.
        layers: How many operations are drawn.
        magnitude: Mean strength, 0..10.
        std: Standard deviation of the strength, drawn for each operation and clipped to 0..10.
        fill: Colour of uncovered pixels, 0..255 a channel.
        interpolation: Filter of the geometric operations.
        rng: Source of randomness.
    """
    names = tuple(OPERATIONS)
    picture = Image.fromarray(image)
    for _ in range(layers):
        name, applied = names[rng.integers(len(names))], rng.random() < 0.5
        strength = min(max(rng.normal(magnitude, std), 0.0), 10.0) / 10
        sign = 1 if rng.random() < 0.5 else -1
        if applied:
            level = Level(strength, sign, fill, PIL_FILTERS[interpolation])
            picture = OPERATIONS[name](picture, level)
    return np.asarray(picture)
