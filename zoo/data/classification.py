"""Classification data: one config says what to read and how to augment it."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from zoo.data.augment.randaugment import LARGEST_MAGNITUDE, RandAugmentStyle, randaugment
from zoo.data.class_sources import open_source
from zoo.data.decode import decode_image
from zoo.data.errors import DataError
from zoo.data.loader import Dataset, Example
from zoo.data.own import prepared
from zoo.data.transforms import (
    HostImage,
    random_erase,
    random_flip,
    random_resized_crop,
    resize,
    resize_and_crop,
)
from zoo.types import CropMode, Interpolation, Preprocessing


@dataclasses.dataclass(frozen=True)
class ClassificationData:
    """What to train and evaluate on; the defaults are the embedded digits at their own size.

    Attributes:
        source: ``digits``, ``folder:PATH`` with PATH/train/CLASS/IMAGE and PATH/val/CLASS/IMAGE,
            or a TFDS set such as ``imagenet2012`` or ``oxford_flowers102:2.1.1``.
        data_dir: Folder of TFDS's data sets; None is ``~/tensorflow_datasets``.
        train_split: A split of a TFDS set, or the name of a sub-folder; or a slice of it, such as
            ``train[:99%]``. The images of a folder are sliced in a fixed shuffled order.
        eval_split: The same for evaluation. If there is no sub-folder val, validation or test, one
            of the other two is used.
        image_size: Height and width in pixels.
        mean: Mean of the pixels on a scale of 0..1, for each channel. None, here and in the four
            fields below, means the model's own value (see `zoo.preprocessing`); a run fills it in.
        std: Standard deviation on the same scale.
        interpolation: Filter of every resize.
        crop_fraction: Share of the resized shorter side that the centre crop of evaluation keeps.
        crop_mode: ``center`` keeps the aspect in the resize of evaluation; ``squash`` does not.
        train_crop: ``random_resized`` resizes a random box to `image_size`; ``resize`` resizes the
            whole image.
        crop_scale: Smallest and largest area of the random box, as a share of the image's area.
        crop_ratio: Smallest and largest aspect of the random box, width over height.
        flip: Mirror training images left and right with probability 1/2.
        randaugment_layers: Number of RandAugment operations for each image; 0 turns it off.
        randaugment_style: Whose operations are used, timm's or big_vision's: see
            `zoo.data.augment.randaugment`.
        randaugment_magnitude: Strength on AutoAugment's scale: 0..10, for big_vision 0..30.
        randaugment_std: Standard deviation of the strength.
        erase_probability: Share of images in which a box is erased.
        mixup: Parameter of Mixup's Beta distribution; 0 turns it off. Mixing happens on the
            device: see `mix_batch`.
        cutmix: The same for CutMix.
        mix_probability: Share of batches that are mixed.
        on_error: What happens if an image cannot be read: ``stop`` ends the run with an error;
            ``skip`` leaves the image out, counts it and logs its name.
        threads: Threads that read and decode.
        workers: Worker processes with that many threads each; with 0, this process does the work.
    """

    source: str = "digits"
    data_dir: str | None = None
    train_split: str = "train"
    eval_split: str = "test"
    image_size: tuple[int, int] = (8, 8)
    mean: tuple[float, float, float] | None = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] | None = (0.5, 0.5, 0.5)
    interpolation: Interpolation | None = "bilinear"
    crop_fraction: float | None = 1.0
    crop_mode: CropMode | None = "center"
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
    how: Preprocessing

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """{"image", "label", "name"} -> {"image", "label", "valid"}."""
        c, how = self.config, self.how
        if c.train_crop == "random_resized":
            # With sides of this length, even the smallest box has as many pixels as the result.
            enough = math.ceil(max(c.image_size) / math.sqrt(c.crop_scale[0]))
            image = decode_image(example["image"], example["name"], min_side=enough)
            image = random_resized_crop(
                image, c.image_size, c.crop_scale, c.crop_ratio, how.interpolation, rng
            )
        else:
            image = decode_image(example["image"], example["name"])
            image = resize(image, c.image_size, how.interpolation)
        if c.flip:
            image = random_flip(image, rng)
        if c.randaugment_layers:
            image = randaugment(
                image,
                c.randaugment_style,
                c.randaugment_layers,
                c.randaugment_magnitude,
                c.randaugment_std,
                tuple(min(255, round(255 * channel)) for channel in how.mean),
                how.interpolation,
                rng,
            )
        if c.erase_probability:
            image = random_erase(image, c.erase_probability, how.mean, how.std, rng)
        return _example(image, example["label"])


@dataclasses.dataclass(frozen=True)
class EvalTransform:
    """Decodes, resizes and crops the centre, as timm's evaluation does."""

    config: ClassificationData
    how: Preprocessing

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """{"image", "label", "name"} -> {"image", "label", "valid"}."""
        c, how = self.config, self.how
        image = decode_image(example["image"], example["name"])
        image = resize_and_crop(
            image, c.image_size, how.crop_fraction, how.interpolation, how.crop_mode
        )
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
        split: Which split of the config to open; it also decides the transform.
        class_names: The classes that a model was trained on; a label is a position in them. Class
            folders may lack some of them; a TFDS set must have exactly these. None takes the data's
            own classes.

    Raises:
        DataError: If a field has an invalid value, the source or split does not exist, or a class
            is unknown.
    """
    _check(config)
    how = prepared(config, config.image_size)
    name = config.train_split if split == "train" else config.eval_split
    source = open_source(config.source, config.data_dir, name, class_names)
    if not len(source):
        raise DataError(f"data {config.source!r} has no images in the split {name!r}")
    return Dataset(
        source=source,
        transform=(TrainTransform if split == "train" else EvalTransform)(config, how),
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
    """Rejects values that would fail later, or would have an unintended effect."""
    c, strongest = config, LARGEST_MAGNITUDE[config.randaugment_style]
    rules = {
        "image_size": (min(c.image_size) >= 1, "positive numbers of pixels"),
        "std": (c.std is None or min(c.std) > 0, "positive"),
        "crop_fraction": (
            c.crop_fraction is None or 0 < c.crop_fraction <= 1,
            "in 0..1 and not 0",
        ),
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
