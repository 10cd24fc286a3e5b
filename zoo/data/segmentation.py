"""Segmentation data: one config says what to read and how to augment it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Integer, UInt8

from zoo.data.augment.deform import elastic, mirror, random_place, random_scale
from zoo.data.augment.picture import Picture, flip
from zoo.data.decode import decode_image, decode_label_map
from zoo.data.errors import DataError
from zoo.data.label_map_sources import NO_LABEL, Table, open_labelled
from zoo.data.loader import Dataset, Example
from zoo.data.own import prepared
from zoo.ops.borders import border_weights
from zoo.types import IGNORE_LABEL, IMAGENET_MEAN, IMAGENET_STD, Preprocessing


@dataclasses.dataclass(frozen=True)
class SegmentationData:
    """What to train and evaluate on; the defaults are the embedded digit scenes.

    Attributes:
        source: ``digit_scenes``; ``folder:PATH`` with PATH/train/images/NAME.jpg and
            PATH/train/masks/NAME.png, the same below val, and PATH/classes.txt with one name in
            each line; ``voc:PATH`` with PASCAL VOC's folder of a year; or TFDS's
            ``oxford_iiit_pet`` or ``cityscapes``.
        data_dir: Folder of TFDS's data sets; None is ``~/tensorflow_datasets``.
        train_split: A split of a TFDS set, the name of a sub-folder, or the name of one of VOC's
            lists; or a slice of it, such as ``train[:99%]``. The images of a folder or list are
            sliced in a fixed shuffled order.
        eval_split: The same for evaluation. If there is no sub-folder val, validation or test, one
            of the other two is used.
        ignore_label: Value of the pixels that do not count, in the masks of a folder.
        image_size: Height and width of training crops. In evaluation, images keep their resolution
            and are segmented in windows of this size.
        mean: Mean of the pixels on a scale of 0..1, for each channel; None means the model's own,
            which a run fills in.
        std: Standard deviation on the same scale; None means the model's own.
        scale: Smallest and largest factor by which training images are resized before the crop.
        flip: Mirror training images left and right with probability 1/2.
        elastic: Standard deviation, in pixels, of the U-Net paper's deformation; 0 turns it off.
        mirror: Width in pixels of the mirrored border that is added to training images. With the
            `margin` of a model with valid convolutions, the model also predicts their edges.
        border_weight: Weight of the background between close objects, which are the connected
            parts of all classes except the first; see `border_weights`. The U-Net paper's is
            10; 0 turns it off.
        border_sigma: Width of the gaps between such objects, in pixels.
        overlap: Share of a window by which neighbouring windows overlap, in evaluation.
        on_error: What happens if an image cannot be read: ``stop`` ends the run with an error;
            ``skip`` leaves the image out, counts it and logs its name.
        threads: Threads that read and decode.
        workers: Worker processes with that many threads each; with 0, this process does the work.
    """

    source: str = "digit_scenes"
    data_dir: str | None = None
    train_split: str = "train"
    eval_split: str = "test"
    ignore_label: int = IGNORE_LABEL
    image_size: tuple[int, int] = (64, 64)
    mean: tuple[float, float, float] | None = IMAGENET_MEAN
    std: tuple[float, float, float] | None = IMAGENET_STD
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
            is neither a class nor ignored.
    """
    image, mask = example["image"], example["label_map"]
    if isinstance(image, bytes):
        image = decode_image(image, example["name"])
        mask = decode_label_map(mask, example["mask_name"])
    if image.shape[:2] != mask.shape:
        turned = image.shape[:2] == mask.shape[::-1]
        sizes = [f"{height} x {width} px" for height, width in (image.shape[:2], mask.shape)]
        raise DataError(
            f"{example['name']}: the image is of {sizes[0]}, but its mask"
            f" {example['mask_name']} of {sizes[1]}"
            + ("; an orientation in the EXIF of one may be why" if turned else "")
        )
    return Picture(image, label_map=_to_labels(mask, labels, example["mask_name"]))


def _to_labels(
    mask: Integer[np.ndarray, "h w"], labels: Table, name: str
) -> UInt8[np.ndarray, "h w"]:
    counted = mask.dtype == np.uint8  # bincount is several times as fast as sorting
    values = np.flatnonzero(np.bincount(mask.reshape(-1))) if counted else np.unique(mask)
    for value in values:
        if not 0 <= value < 256 or labels[value] == NO_LABEL:
            known = np.flatnonzero((labels != NO_LABEL) & (labels != IGNORE_LABEL))
            ignored = np.flatnonzero(labels == IGNORE_LABEL)
            also = f", and {ignored[-1]} is ignored" if len(ignored) else ""
            raise DataError(
                f"{name}: value {value} is not a class; classes are {known[0]} to {known[-1]}{also}"
            )
    return labels.astype(np.uint8)[mask]


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """Decodes and augments: scale, elastic deformation, flip, crop."""

    config: SegmentationData
    how: Preprocessing
    labels: Table

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """{"image", "label_map", ...} -> {"image", "label_map", "valid"}, maybe "border"."""
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
        red, green, blue = (min(255, round(255 * channel)) for channel in self.how.mean)
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
    """Numbers the connected parts of all classes except the first from 1 on; the rest is 0."""
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
    does not count, ``valid`` bool [], and with `border_weight` ``border`` float32 [h w]. Evaluation
    examples have the first three, in the size of their image, so a batch must have one example.

    Args:
        config: What to read.
        split: Which split of the config to open; it also decides the transform.
        class_names: The classes that a model was trained on; the data must have exactly these. None
            takes the data's own classes.

    Raises:
        DataError: If a field has an invalid value, the source or split does not exist, the classes
            differ, or an image has no mask.
    """
    _check(config)
    how = prepared(config, config.image_size)
    name = config.train_split if split == "train" else config.eval_split
    source = open_labelled(config.source, config.data_dir, name, config.ignore_label, class_names)
    if not len(source):
        raise DataError(f"data {config.source!r} has no images in the split {name!r}")
    nothing = Picture(
        np.zeros((*config.image_size, 3), np.uint8),
        label_map=np.full(config.image_size, IGNORE_LABEL, np.uint8),
    )
    return Dataset(
        source=source,
        transform=TrainTransform(config, how, source.labels)
        if split == "train"
        else EvalTransform(source.labels),
        padding=({**_example(nothing, config), "valid": np.bool_(False)},),
        class_names=source.class_names,
        on_error=config.on_error,
        threads=config.threads,
        workers=config.workers,
    )


def _check(config: SegmentationData) -> None:
    """Rejects values that would fail later, or would have an unintended effect."""
    c = config
    rules = {
        "ignore_label": (0 <= c.ignore_label <= 255, "in 0..255"),
        "image_size": (min(c.image_size) >= 1, "positive numbers of pixels"),
        "std": (c.std is None or min(c.std) > 0, "positive"),
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
