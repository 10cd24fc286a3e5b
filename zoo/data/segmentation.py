"""Segmentation data: what to read and how to augment it, by one config."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Integer, UInt8

from zoo.data.decode import decode_image, decode_label_map
from zoo.data.deform import elastic, mirror, random_place, random_scale
from zoo.data.errors import DataError
from zoo.data.joint import Picture, flip
from zoo.data.loader import Dataset, Example
from zoo.data.segmentation_sources import NO_LABEL, Table, open_labelled
from zoo.ops.borders import border_weights
from zoo.types import IGNORE_LABEL, IMAGENET_MEAN, IMAGENET_STD


@dataclasses.dataclass(frozen=True)
class SegmentationData:
    """What to train and evaluate on; the defaults are the embedded digit scenes.

    Attributes:
        source: ``digit_scenes``; ``folder:PATH`` with PATH/train/images/NAME.jpg and
            PATH/train/masks/NAME.png, the same below val, and PATH/classes.txt, a name a line;
            ``voc:PATH`` with PASCAL VOC's folder of a year; or TFDS's ``oxford_iiit_pet`` or
            ``cityscapes``.
        data_dir: Where TFDS keeps its sets; None is ``~/tensorflow_datasets``.
        train_split: TFDS's split, slices included, ``train[:99%]``; the same of a folder's
            sub-folder or VOC's list, where a slice is of its images in a fixed shuffled order.
        eval_split: The same for evaluation; folders val, validation, test stand in for each other.
        ignore_label: Value in a folder's masks of pixels that do not count.
        image_size: Height and width of training crops; an evaluated image, at its own resolution,
            is looked at in windows of that size.
        mean: Of the pixels on a scale of 0..1, one a channel.
        std: Standard deviation on the same scale.
        scale: Least and largest factor by which training images are resized before the crop.
        flip: Mirror training images left and right with probability 1/2.
        elastic: Standard deviation, in pixels, of the U-Net paper's deformation; 0 is none.
        mirror: Pixels that training images are mirrored around their borders, so that a model
            with valid convolutions sees these as well: its `margin`.
        border_weight: Weight of the ground between objects that touch, which are the connected
            parts of all classes but the first; see `border_weights`. The paper's is 10; 0 is none.
        border_sigma: Width of such gaps, in pixels.
        overlap: Share of a window that neighbouring windows have in common, in evaluation.
        on_error: What an unreadable image does: stop the run, or be left out, counted and named.
        threads: Threads that read and decode.
        workers: Processes with that many threads each; 0 is none but this one.
    """

    source: str = "digit_scenes"
    data_dir: str | None = None
    train_split: str = "train"
    eval_split: str = "test"
    ignore_label: int = IGNORE_LABEL
    image_size: tuple[int, int] = (64, 64)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = False
    elastic: float = 0.0
    mirror: int = 0
    border_weight: float = 0.0
    border_sigma: float = 5.0
    overlap: float = 0.25
    on_error: Literal["stop", "skip"] = "stop"
    threads: int = 16
    workers: int = 0


def read_picture(example: Mapping[str, Any], labels: Table) -> Picture:
    """The decoded image with its label map.

    Raises:
        DataError: If one of them cannot be read, they have different sizes, or a value of the mask
            is neither a class nor to be ignored.
    """
    image, mask = example["image"], example["label_map"]
    if isinstance(image, bytes):
        image = decode_image(image, example["name"])
        mask = decode_label_map(mask, example["mask_name"])
    if image.shape[:2] != mask.shape:
        sizes = [f"{height} x {width} px" for height, width in (image.shape[:2], mask.shape)]
        raise DataError(
            f"{example['name']}: the image is of {sizes[0]}, but its mask"
            f" {example['mask_name']} of {sizes[1]}"
        )
    return Picture(image, label_map=_to_labels(mask, labels, example["mask_name"]))


def _to_labels(
    mask: Integer[np.ndarray, "h w"], labels: Table, name: str
) -> UInt8[np.ndarray, "h w"]:
    counted = mask.dtype == np.uint8  # several times as fast as sorting
    values = np.flatnonzero(np.bincount(mask.reshape(-1))) if counted else np.unique(mask)
    for value in values:
        if not 0 <= value < 256 or labels[value] == NO_LABEL:
            known = np.flatnonzero((labels != NO_LABEL) & (labels != IGNORE_LABEL))
            ignored = np.flatnonzero(labels == IGNORE_LABEL)
            also = f", nor ignored as {ignored[-1]} is" if len(ignored) else ""
            raise DataError(
                f"{name}: value {value} is no class; these are {known[0]} to {known[-1]}{also}"
            )
    return labels.astype(np.uint8)[mask]


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """Decodes and augments: scale, elastic deformation, flip, crop."""

    config: SegmentationData
    labels: Table

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """{"image", "label_map", ...} -> {"image", "label_map", "valid"} and any "border"."""
        c = self.config
        picture = read_picture(example, self.labels)
        if c.scale != (1.0, 1.0):
            picture = random_scale(picture, c.scale, rng)
        if c.elastic:
            picture = elastic(picture, c.elastic, rng)
        if c.flip and rng.random() < 0.5:
            picture = flip(picture)
        if c.mirror:
            picture = mirror(picture, c.mirror)
        red, green, blue = (min(255, round(255 * channel)) for channel in c.mean)
        picture = random_place(picture, c.image_size, (red, green, blue), IGNORE_LABEL, rng)
        return _example(picture, c)


@dataclasses.dataclass(frozen=True)
class EvalTransform:
    """Decodes; images keep their size."""

    labels: Table

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """{"image", "label_map", ...} -> {"image", "label_map", "valid"}."""
        picture = read_picture(example, self.labels)
        return {
            "image": picture.image,
            "label_map": np.asarray(picture.label_map),
            "valid": np.bool_(True),
        }


def _example(picture: Picture, config: SegmentationData) -> Example:
    labels = np.asarray(picture.label_map)
    example: Example = {
        "image": np.ascontiguousarray(picture.image),
        "label_map": labels,
        "valid": np.bool_(True),
    }
    if config.border_weight:
        objects = find_objects(labels)
        example["border"] = border_weights(objects, config.border_weight, config.border_sigma)
    return example


def find_objects(labels: UInt8[np.ndarray, "h w"]) -> Integer[np.ndarray, "h w"]:
    """Numbers the connected parts of all classes but the first from 1 on; 0 is the rest."""
    objects = np.zeros(labels.shape, np.int32)
    for label in np.unique(labels[(labels > 0) & (labels != IGNORE_LABEL)]):
        _, parts = cv2.connectedComponents((labels == label).astype(np.uint8), connectivity=4)
        objects = np.where(parts > 0, parts + objects.max(), objects)
    return objects


def open_segmentation(
    config: SegmentationData,
    split: Literal["train", "eval"],
    class_names: tuple[str, ...] | None = None,
) -> Dataset:
    """Opens the data of a config for training or for evaluation.

    Training examples are ``image`` uint8 [h w 3], ``label_map`` uint8 [h w] with 255 where a pixel
    does not count, ``valid`` bool [], and with `border_weight` ``border`` float32 [h w]. Those of
    evaluation have the first three, each of a size of its own: take batches of one.

    Args:
        config: What to read.
        split: Which of the config's two splits, and its transform.
        class_names: The classes that a model was trained on; the data must have the same. None is
            the data's own.

    Raises:
        DataError: If a field has a value that cannot be, the source, split or classes are not
            there, or an image lacks its mask.
    """
    _check(config)
    name = config.train_split if split == "train" else config.eval_split
    source = open_labelled(config.source, config.data_dir, name, config.ignore_label, class_names)
    nothing = Picture(
        np.zeros((*config.image_size, 3), np.uint8),
        label_map=np.full(config.image_size, IGNORE_LABEL, np.uint8),
    )
    return Dataset(
        source=source,
        transform=TrainTransform(config, source.labels)
        if split == "train"
        else EvalTransform(source.labels),
        padding=({**_example(nothing, config), "valid": np.bool_(False)},),
        class_names=source.class_names,
        on_error=config.on_error,
        threads=config.threads,
        workers=config.workers,
    )


def _check(config: SegmentationData) -> None:
    """Rejects values that could only fail later, or silently do something else."""
    c = config
    rules = {
        "ignore_label": (0 <= c.ignore_label <= 255, "in 0..255"),
        "image_size": (min(c.image_size) >= 1, "positive numbers of pixels"),
        "std": (min(c.std) > 0, "positive"),
        "scale": (0 < c.scale[0] <= c.scale[1], "ascending and positive"),
        "elastic": (c.elastic >= 0, "0 or more"),
        "mirror": (c.mirror >= 0, "0 or more"),
        "border_weight": (c.border_weight >= 0, "0 or more"),
        "border_sigma": (c.border_sigma > 0, "positive"),
        "overlap": (0 <= c.overlap <= 0.75, "in 0..0.75"),
        "threads": (c.threads >= 0, "0 or more"),
        "workers": (c.workers >= 0, "0 or more"),
    }
    for field, (allowed, rule) in rules.items():
        if not allowed:
            raise DataError(f"data.{field} is {getattr(c, field)}, but must be {rule}")
