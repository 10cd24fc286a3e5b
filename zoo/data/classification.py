"""Classification data: what to read and how to augment it, by one config."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from zoo.data.decode import decode_image
from zoo.data.errors import DataError
from zoo.data.loader import Dataset, Example
from zoo.data.randaugment import LARGEST_MAGNITUDE, RandAugmentStyle, randaugment
from zoo.data.sources import open_source
from zoo.data.transforms import (
    HostImage,
    random_erase,
    random_flip,
    random_resized_crop,
    resize,
    resize_and_crop,
)
from zoo.types import Interpolation


@dataclasses.dataclass(frozen=True)
class ClassificationData:
    """What to train and evaluate on; the defaults are the embedded digits at their own size.

    Attributes:
        source: ``digits``, ``folder:PATH`` with PATH/train/CLASS/IMAGE and PATH/val/CLASS/IMAGE,
            or a TFDS set such as ``imagenet2012`` or ``oxford_flowers102:2.1.1``.
        data_dir: Where TFDS keeps its sets; None is ``~/tensorflow_datasets``.
        train_split: TFDS's split, slices included, ``train[:99%]``; the same of a folder's
            sub-folder, where a slice is of its images in a fixed shuffled order.
        eval_split: The same for evaluation; folders val, validation, test stand in for each other.
        image_size: Height and width in pixels.
        mean: Of the pixels on a scale of 0..1, one a channel.
        std: Standard deviation on the same scale.
        interpolation: Filter of every resize.
        crop_fraction: Share of the resized shorter side that evaluation's centre crop keeps.
        train_crop: A random box resized, or the whole image resized to `image_size`.
        crop_scale: Least and largest share of the area of the random box.
        crop_ratio: Least and largest aspect of the random box, width over height.
        flip: Mirror training images left and right with probability 1/2.
        randaugment_layers: RandAugment's operations for each image; 0 is none.
        randaugment_style: Whose operations, timm's or big_vision's: see `zoo.data.randaugment`.
        randaugment_magnitude: Their strength on AutoAugment's scale, 0..10, for big_vision 0..30.
        randaugment_std: Standard deviation of the strength.
        erase_probability: Share of images in which a box is erased.
        mixup: Parameter of Mixup's Beta distribution; 0 is none. Mixing happens on the device:
            see `mix_batch`.
        cutmix: The same for CutMix.
        mix_probability: Share of batches that are mixed.
        on_error: What an unreadable image does: stop the run, or be left out, counted and named.
        threads: Threads that read and decode.
        workers: Processes with that many threads each; 0 is none but this one.
    """

    source: str = "digits"
    data_dir: str | None = None
    train_split: str = "train"
    eval_split: str = "test"
    image_size: tuple[int, int] = (8, 8)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    interpolation: Interpolation = "bilinear"
    crop_fraction: float = 1.0
    train_crop: Literal["random_resized", "resize"] = "resize"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = False
    randaugment_layers: int = 0
    randaugment_style: RandAugmentStyle = "timm"
    randaugment_magnitude: float = 9.0
    randaugment_std: float = 0.0
    erase_probability: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    on_error: Literal["stop", "skip"] = "stop"
    threads: int = 16
    workers: int = 0


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """Decodes and augments: crop, flip, RandAugment, erasing, in timm's order."""

    config: ClassificationData

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """{"image", "label", "name"} -> {"image", "label", "valid"}."""
        c = self.config
        if c.train_crop == "random_resized":
            # The smallest box still has as many pixels as the result: nothing is lost.
            enough = math.ceil(max(c.image_size) / math.sqrt(c.crop_scale[0]))
            image = decode_image(example["image"], example["name"], min_side=enough)
            image = random_resized_crop(
                image, c.image_size, c.crop_scale, c.crop_ratio, c.interpolation, rng
            )
        else:
            image = decode_image(example["image"], example["name"])
            image = resize(image, c.image_size, c.interpolation)
        if c.flip:
            image = random_flip(image, rng)
        if c.randaugment_layers:
            image = randaugment(
                image,
                c.randaugment_style,
                c.randaugment_layers,
                c.randaugment_magnitude,
                c.randaugment_std,
                tuple(min(255, round(255 * channel)) for channel in c.mean),
                c.interpolation,
                rng,
            )
        if c.erase_probability:
            image = random_erase(image, c.erase_probability, c.mean, c.std, rng)
        return _example(image, example["label"])


@dataclasses.dataclass(frozen=True)
class EvalTransform:
    """Decodes, resizes and crops the centre, as timm's evaluation does."""

    config: ClassificationData

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """{"image", "label", "name"} -> {"image", "label", "valid"}."""
        c = self.config
        image = decode_image(example["image"], example["name"])
        image = resize_and_crop(image, c.image_size, c.crop_fraction, c.interpolation)
        return _example(image, example["label"])


def _example(image: HostImage, label: int) -> Example:
    return {"image": image, "label": np.int32(label), "valid": np.bool_(True)}


def open_classification(
    config: ClassificationData,
    split: Literal["train", "eval"],
    class_names: tuple[str, ...] | None = None,
) -> Dataset:
    """Opens the data of a config for training or for evaluation.

    Examples are ``image`` uint8 [h w 3], ``label`` int32 [], ``valid`` bool []. The digits are
    prepared in `data_dir` when they are not there yet; any other set must be prepared before.

    Args:
        config: What to read.
        split: Which of the config's two splits, and its transform.
        class_names: The classes that a model was trained on: labels are positions in it. Class
            folders may lack some of them; a TFDS set must have the same. None is the data's own.

    Raises:
        DataError: If a field has a value that cannot be, or the source, split or classes are not
            there.
    """
    _check(config)
    name = config.train_split if split == "train" else config.eval_split
    source = open_source(config.source, config.data_dir, name, class_names)
    return Dataset(
        source=source,
        transform=TrainTransform(config) if split == "train" else EvalTransform(config),
        padding=(
            {
                "image": np.zeros((*config.image_size, 3), np.uint8),
                "label": np.int32(0),
                "valid": np.bool_(False),
            },
        ),
        class_names=source.class_names,
        on_error=config.on_error,
        threads=config.threads,
        workers=config.workers,
    )


def _check(config: ClassificationData) -> None:
    """Rejects values that could only fail later, or silently do something else."""
    c, strongest = config, LARGEST_MAGNITUDE[config.randaugment_style]
    rules = {
        "image_size": (min(c.image_size) >= 1, "positive numbers of pixels"),
        "std": (min(c.std) > 0, "positive"),
        "crop_fraction": (0 < c.crop_fraction <= 1, "in 0..1 and not 0"),
        "crop_scale": (0 < c.crop_scale[0] <= c.crop_scale[1] <= 1, "ascending in 0..1, not 0"),
        "crop_ratio": (0 < c.crop_ratio[0] <= c.crop_ratio[1], "ascending and positive"),
        "randaugment_layers": (c.randaugment_layers >= 0, "0 or more"),
        "randaugment_magnitude": (
            0 <= c.randaugment_magnitude <= strongest,
            f"in 0..{strongest} with randaugment_style={c.randaugment_style}",
        ),
        "randaugment_std": (c.randaugment_std >= 0, "0 or more"),
        "erase_probability": (0 <= c.erase_probability <= 1, "in 0..1"),
        "mixup": (c.mixup >= 0, "0 or more"),
        "cutmix": (c.cutmix >= 0, "0 or more"),
        "mix_probability": (0 <= c.mix_probability <= 1, "in 0..1"),
        "threads": (c.threads >= 0, "0 or more"),
        "workers": (c.workers >= 0, "0 or more"),
    }
    for field, (allowed, rule) in rules.items():
        if not allowed:
            raise DataError(f"data.{field} is {getattr(c, field)}, but must be {rule}")
