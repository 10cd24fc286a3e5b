"""Definitions that several parts of the zoo share: letters of axes, and small classes.

Axes in shapes, the same everywhere:

    b batch      h w c image height, width, channels     n tokens      d features
    q queries    k classes    m padded targets    p patch size    s t source and target length

Images are NHWC. Boxes are ``xyxy`` in absolute pixels; any other format is in the name. Masks and
validity flags are boolean and ``True`` means valid, keep or visible.
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal, get_args

Interpolation = Literal["bilinear", "bicubic"]
CropMode = Literal["center", "squash", "letterbox"]
Paste = Literal["centres", "whole_pixels"]  # see `zoo.ops.instance_masks.paste_masks`
Space = Literal["hsv", "lab", "intensity", "hue", "rgi"]  # see `zoo.classical.selective_search`
Similarity = Literal["colour", "texture", "size", "fill"]  # see `zoo.classical.regions`

IGNORE_LABEL = 255  # in label maps: pixels that losses and metrics ignore

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class InputError(ValueError):
    """The user's input is wrong; the message is one line: what, where, and what is allowed.

    Commands print the message and exit with code 2. Any other exception is a bug and shows its
    traceback.
    """


def check_choice(what: str, value: object, allowed: object) -> None:
    """Raises ValueError, which lists the choices, if a value is not a choice of a `Literal`."""
    if value not in get_args(allowed):
        raise ValueError(f"{what} {value!r} is not one of {', '.join(map(str, get_args(allowed)))}")


def check_not_negative(settings: object, names: Iterable[str], prefix: str) -> None:
    """Raises InputError if a named attribute, `prefix` before its name, is below 0; None is not."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < 0:
            raise InputError(f"{prefix}{name} is {value}, but must be at least 0")


@dataclasses.dataclass(frozen=True)
class ProposalSearch:
    """How selective search proposes regions of an image; the defaults are R-CNN's fast mode.

    `zoo.classical.selective_search` explains the ways of grouping.

    Attributes:
        num_proposals: Largest number of proposals of an image; the others are left out.
        long_side: An image whose longer side is longer is searched at this size.
        min_side: Boxes with a shorter side are left out, in pixels of the searched image.
        spaces: Colour spaces; ``rgi`` is red, green and intensity.
        ks: Scales of the segmentation.
        similarities: Combinations of similarities.
        sigma: Blur before the segmentation, in pixels of the searched image.
        min_size: Least number of pixels of a region in the segmentation.

    Raises:
        ValueError: If a value is out of its range.
    """

    num_proposals: int = 2000
    long_side: int = 500
    min_side: int = 20
    spaces: tuple[Space, ...] = ("hsv", "lab")
    ks: tuple[float, ...] = (150.0, 300.0, 450.0)
    similarities: tuple[tuple[Similarity, ...], ...] = (
        ("colour", "texture", "size", "fill"),
        ("texture", "size", "fill"),
    )
    sigma: float = 0.8
    min_size: int = 100

    def __post_init__(self) -> None:
        for space in self.spaces:
            check_choice("space", space, Space)
        for similarity in (one for several in self.similarities for one in several):
            check_choice("similarity", similarity, Similarity)
        if not (self.spaces and self.ks and self.similarities and all(self.similarities)):
            raise ValueError(f"spaces, ks and similarities must not be empty: {self}")
        positive = (self.num_proposals, self.long_side, self.sigma, *self.ks)
        if min(positive) <= 0 or min(self.min_side, self.min_size) < 0:
            raise ValueError(f"numbers must be positive, min_side and min_size 0 or more: {self}")


SCENE_SEARCH = ProposalSearch(
    num_proposals=100, min_side=6, spaces=("lab", "rgi"), ks=(100.0, 300.0), sigma=0.5, min_size=10
)
"""For the embedded digit scenes: on average 66 proposals of a scene, in 0.024 s of CPU time; 0.967
of the digits of the test split overlap one of them with an IoU of at least 0.5."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How images are prepared for a model.

    Attributes:
        size: Height and width in pixels.
        mean: Mean of each channel, which is subtracted from pixels scaled to 0..1.
        std: Standard deviation of each channel, by which pixels are divided, on the same scale.
        interpolation: Filter of the resize before the centre crop.
        crop_fraction: Share of the resized shorter side that the centre crop keeps.
        crop_mode: ``center``: the resize keeps the aspect ratio. ``squash``: the resize gives the
            image the aspect ratio of `size`. These are timm's names. ``letterbox``: the whole image
            is put into the middle of a grey one of `size`, as in darknet, without a crop.
        proposals: How regions are proposed for a detector that takes proposals; None for other
            models, and for one that was trained on a grid of windows.

    Raises:
        ValueError: If a value is out of its range.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Interpolation = "bicubic"
    crop_fraction: float = 0.875
    crop_mode: CropMode = "center"
    proposals: ProposalSearch | None = None

    def __post_init__(self) -> None:
        check_choice("interpolation", self.interpolation, Interpolation)
        check_choice("crop_mode", self.crop_mode, CropMode)
        if min(self.size) < 1 or min(self.std) <= 0 or not 0 < self.crop_fraction <= 1:
            raise ValueError(f"size and std must be positive, crop_fraction in 0..1: {self}")
