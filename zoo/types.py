"""What several parts of the zoo share: the letters of the axes, and small dataclasses.

Axes in shapes, the same everywhere:

    b batch      h w c image height, width, channels     n tokens      d features
    q queries    k classes    m padded targets    p patch size    s t source and target length

Images are NHWC. Boxes are ``xyxy`` in absolute pixels; any other format is in the name. Masks and
validity flags are boolean and ``True`` means valid, keep or visible.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from flax import linen as nn

Interpolation = Literal["bilinear", "bicubic"]

IGNORE_LABEL = 255  # of pixels that do not count, in label maps

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class InputError(ValueError):
    """Something that a user gave is wrong: one line that says what, where, and what is allowed.

    Command lines print it and exit with 2; any other exception is a bug, and shows its trace.
    """


def check_choice(what: str, value: object, allowed: object) -> None:
    """Raises ValueError, listing them, if a value is none of the choices of a `Literal`."""
    if value not in get_args(allowed):
        raise ValueError(f"{what} {value!r} is not one of {', '.join(map(str, get_args(allowed)))}")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a model wants its images.

    Attributes:
        size: Height and width in pixels.
        mean: Per-channel mean to subtract, of pixels scaled to 0..1.
        std: Per-channel standard deviation to divide by, on the same scale.
        interpolation: Filter of the resize before the centre crop.
        crop_fraction: Share of the resized shorter side that the centre crop keeps.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Interpolation = "bicubic"
    crop_fraction: float = 0.875


class Variant(NamedTuple):
    """One named model: its builder and how its images are prepared, if it is for images."""

    build: Callable[..., nn.Module]
    preprocessing: Preprocessing | None = None
