"""Classification data: what to read and how to augment it, by one config."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from zoo.data.decode import decode_image
from zoo.data.loader import Batch, Dataset
from zoo.data.sources import open_source
from zoo.data.transforms import resize
from zoo.types import Interpolation


@dataclasses.dataclass(frozen=True)
class ClassificationData:
    """What to train and evaluate on; the defaults are the embedded digits at their own size."""

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
class _Transform:
    config: ClassificationData

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Batch:
        image = decode_image(example["image"], "")
        image = resize(image, self.config.image_size, self.config.interpolation)
        return {"image": image, "label": np.int32(example["label"]), "valid": np.bool_(True)}


def open_classification(config: ClassificationData, split: Literal["train", "eval"]) -> Dataset:
    """Opens the data set of a config for training or evaluation."""
    name = config.train_split if split == "train" else config.eval_split
    source = open_source(config.source, config.data_dir, name)
    return Dataset(
        source=source.examples,
        transform=_Transform(config),
        padding={
            "image": np.zeros((*config.image_size, 3), np.uint8),
            "label": np.int32(0),
            "valid": np.bool_(False),
        },
        class_names=source.class_names,
        on_error=config.on_error,
        threads=config.threads,
        workers=config.workers,
    )
