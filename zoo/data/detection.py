"""Detection data: what to read, how to augment it and into which shapes, by one config.

DETR's augmentation (arXiv 2005.12872): the shorter side is drawn from a list and the longer one
capped; every other image is cropped before. Its batches are padded to their largest image, a new
shape nearly every time. Here each image belongs to a *bucket* of one fixed shape, whichever shows
it largest, and is shrunk a little more where it would not fit.
"""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from zoo.data.annotations import Annotations
from zoo.data.coco import coco_paths, open_coco
from zoo.data.cocojson import read_categories
from zoo.data.decode import decode_image
from zoo.data.detection_sources import DetectionSource, open_scenes, open_tfds_detection
from zoo.data.errors import DataError
from zoo.data.joint import (
    Picture,
    Size,
    clip_boxes,
    fit_size,
    flip,
    random_crop,
    resize_picture,
    select,
    shrink_to_fit,
)
from zoo.data.loader import Dataset, Example
from zoo.data.voc import open_voc_detection

_CROP_SHORT_SIDES = (400, 500, 600)  # DETR's, before a crop ...
_CROP_SIDES = (384, 600)  # ... whose sides lie between these


@dataclasses.dataclass(frozen=True)
class DetectionData:
    """What to train and evaluate on; the defaults are the embedded digit scenes.

    Attributes:
        source: ``digit_scenes``; ``coco:DIR`` with annotations and images as COCO's downloads lie,
            or as the four fields below say; ``voc:DIR`` with xml as PASCAL VOC's devkit has
            it, or beside the images of each split; or a TFDS set, ``voc/2007``.
        data_dir: Where TFDS keeps its sets; None is ``~/tensorflow_datasets``.
        train_split: ``train``, ``train2017``, ...; slices such as ``train[:90%]`` of COCO's and
            VOC's (of the images in a fixed shuffled order) and TFDS's, ``train[:1000]`` of scenes.
        eval_split: The same for evaluation.
        train_annotations: COCO's json, a path in DIR; None is ``annotations/instances_SPLIT.json``.
        train_images: The images' folder, a path in DIR; None is ``SPLIT``.
        eval_annotations: As for training.
        eval_images: As for training.
        buckets: Heights and widths of padded images; an image's depends on its own aspect alone.
        mean: Of the pixels on a scale of 0..1, one a channel.
        std: Standard deviation on the same scale.
        max_objects: Training targets that an image has room for.
        too_many: What an image with more does: stop the run before it begins, or go without its
            smallest objects.
        short_sides: The shorter side of training images is drawn from these; evaluation takes the
            largest. None at all: images keep their size.
        long_side: The longer side is no longer than this.
        random_crop: DETR's crop, of one image in two.
        flip: Mirror training images left and right with probability 1/2.
        masks: Give instance masks; COCO's annotations must have them.
        upright: Apply EXIF's orientation, as annotation tools do when they show an image; False
            where boxes are of the pixels as they are stored.
        on_error: What an unreadable image does: stop the run, or be left out, counted and named.
        threads: Threads that read and decode.
        workers: Processes with that many threads each; 0 is none but this one.
    """

    source: str = "digit_scenes"
    data_dir: str | None = None
    train_split: str = "train"
    eval_split: str = "test"
    train_annotations: str | None = None
    train_images: str | None = None
    eval_annotations: str | None = None
    eval_images: str | None = None
    buckets: tuple[Size, ...] = ((64, 64),)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    max_objects: int = 6
    too_many: Literal["stop", "drop_smallest"] = "stop"
    short_sides: tuple[int, ...] = ()
    long_side: int = 1333
    random_crop: bool = False
    flip: bool = False
    masks: bool = False
    upright: bool = True
    on_error: Literal["stop", "skip"] = "stop"
    threads: int = 16
    workers: int = 0


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """Decodes and augments: flip, crop, resize, in DETR's order, into the image's bucket."""

    config: DetectionData

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """{"image", "name", "index", "annotations"} -> see `open_detection`."""
        c = self.config
        picture = _picture(example, c)
        if c.flip and rng.random() < 0.5:
            picture = flip(picture)
        if c.random_crop and rng.random() < 0.5:
            side = int(rng.choice(_CROP_SHORT_SIDES))
            unbounded = side * max(picture.size)
            picture = resize_picture(picture, fit_size(picture.size, side, unbounded), fast=True)
            picture = random_crop(picture, _CROP_SIDES, rng)
        size = picture.size
        if c.short_sides:
            size = fit_size(size, int(rng.choice(c.short_sides)), c.long_side)
        bucket = choose_bucket(example["annotations"].size, c)
        picture = resize_picture(picture, shrink_to_fit(size, bucket), fast=True)
        return _example(picture, bucket, example, c)


@dataclasses.dataclass(frozen=True)
class EvalTransform:
    """Decodes and resizes to the largest of the short sides, into the image's bucket."""

    config: DetectionData

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """{"image", "name", "index", "annotations"} -> see `open_detection`."""
        picture = _picture(example, self.config)
        size = evaluated_size(picture.size, self.config)
        bucket = choose_bucket(picture.size, self.config)
        picture = resize_picture(picture, shrink_to_fit(size, bucket))
        return _example(picture, bucket, example, self.config)


def evaluated_size(size: Size, config: DetectionData) -> Size:
    """The size of an image of this size in evaluation, before it is fitted into its bucket."""
    return fit_size(size, max(config.short_sides), config.long_side) if config.short_sides else size


def choose_bucket(size: Size, config: DetectionData) -> Size:
    """The bucket that shrinks an image of this size least in evaluation; of equals the smallest."""
    wanted = evaluated_size(size, config)

    def badness(bucket: Size) -> tuple[float, int]:
        ratio = min(bucket[0] / wanted[0], bucket[1] / wanted[1], 1.0)
        return -ratio, bucket[0] * bucket[1]

    return min(config.buckets, key=badness)


def _picture(example: Mapping[str, Any], config: DetectionData) -> Picture:
    """The decoded image with its training targets."""
    annotations: Annotations = example["annotations"]
    image = example["image"]
    if isinstance(image, bytes):
        image = decode_image(image, example["name"], upright=config.upright)
        height, width = annotations.size
        if image.shape[:2] != (height, width):
            raise DataError(
                f"{example['name']}: the image has {image.shape[0]} x {image.shape[1]} pixels, but"
                f" its annotations are for {height} x {width} (height x width)"
                + _orientation_hint(image.shape[:2] == (width, height), config.upright)
            )
    masks = None
    if config.masks and annotations.masks is not None:
        masks = np.array(annotations.masks.to_arrays(), bool).reshape(-1, *image.shape[:2])
    picture = Picture(image, annotations.boxes, annotations.labels, masks)
    return clip_boxes(select(picture, annotations.targets))


def _orientation_hint(turned: bool, upright: bool) -> str:
    if not turned:
        return ""
    return f"; EXIF's orientation may be why: try --data.upright={str(not upright).lower()}"


def _example(
    picture: Picture, bucket: Size, raw: Mapping[str, Any], config: DetectionData
) -> Example:
    """Pads image, objects and masks to fixed shapes."""
    areas = (picture.boxes[:, 2:] - picture.boxes[:, :2]).prod(axis=1)
    largest = np.argsort(-areas, kind="stable")[: config.max_objects]
    picture = select(picture, np.sort(largest))
    (height, width), count = picture.size, len(picture.labels)
    example = _empty(bucket, config)
    example["image"][:height, :width] = picture.image
    example["boxes"][:count] = picture.boxes
    example["labels"][:count] = picture.labels
    example["box_valid"][:count] = True
    if picture.masks is not None:
        example["masks"][:count, :height, :width] = picture.masks
    return {
        **example,
        "size": np.array([height, width], np.int32),
        "valid": np.bool_(True),
        "index": np.int32(raw["index"]),
        "original_size": np.array(raw["annotations"].size, np.int32),
    }


def _empty(bucket: Size, config: DetectionData) -> dict[str, Any]:
    """An example that is nothing: a black image without objects, as large as the bucket.

    All of its pixels count as image, so that nothing divides by their number.
    """
    m, size = config.max_objects, np.array(bucket, np.int32)
    example: dict[str, Any] = {
        "image": np.zeros((*bucket, 3), np.uint8),
        "size": size,
        "boxes": np.zeros((m, 4), np.float32),
        "labels": np.zeros(m, np.int32),
        "box_valid": np.zeros(m, bool),
        "valid": np.bool_(False),
        "index": np.int32(-1),
        "original_size": size,
    }
    if config.masks:
        example["masks"] = np.zeros((m, *bucket), bool)
    return example


def open_detection(
    config: DetectionData,
    split: Literal["train", "eval"],
    class_names: tuple[str, ...] | None = None,
) -> Dataset:
    """Opens the data of a config for training or for evaluation.

    Examples are, for a bucket of h x w pixels and m = `max_objects`:

    - ``image`` uint8 [h w 3], the picture at the top left, zeros beyond it;
    - ``size`` int32 [2], the picture's height and width;
    - ``boxes`` float32 [m 4], ``xyxy`` in pixels of the picture; ``labels`` int32 [m];
      ``box_valid`` bool [m], True where there is an object;
    - ``masks`` bool [m h w], with `masks`;
    - ``valid`` bool [];
    - ``index`` int32 [], the image's position in the source, -1 for padding;
      ``original_size`` int32 [2], its height and width there.

    Crowds, and what PASCAL VOC marks as difficult, are not among the objects. They are among
    ``dataset.source.annotations(index)``, which evaluation compares with: see
    `zoo.data.annotations.Annotations` and `zoo.data.detection_sources.DetectionSource`.

    Args:
        config: What to read.
        split: Which of the config's two splits, and its transform.
        class_names: The classes that a model was trained on: labels are positions in it, by name.
            The data may lack some of them. None is those of the training data.

    Raises:
        DataError: If a field has a value that cannot be, or the source, split or classes are not
            there, or annotations are wrong.
    """
    _check(config)
    source = _open_source(config, split, class_names)
    if not len(source):
        raise DataError(f"data {config.source!r} has no images in this split")
    _check_counts(source, config)
    groups = None
    if len(config.buckets) > 1:
        sizes, of_size = np.unique(source.sizes, axis=0, return_inverse=True)
        chosen = [config.buckets.index(choose_bucket((h, w), config)) for h, w in sizes.tolist()]
        groups = np.array(chosen, np.int32)[of_size]
    return Dataset(
        source=source,
        transform=TrainTransform(config) if split == "train" else EvalTransform(config),
        padding=tuple(_empty(bucket, config) for bucket in config.buckets),
        class_names=source.class_names,
        on_error=config.on_error,
        threads=config.threads,
        workers=config.workers,
        groups=groups,
    )


def _open_source(
    config: DetectionData, split: Literal["train", "eval"], class_names: tuple[str, ...] | None
) -> DetectionSource:
    name = config.train_split if split == "train" else config.eval_split
    if config.source == "digit_scenes":
        return open_scenes(name, class_names, config.masks)
    kind, _, folder = config.source.partition(":")
    if kind != "coco" and config.masks:
        raise DataError(f"data.masks: {config.source} has none; digit_scenes and coco:DIR have")
    if kind == "voc":
        if split == "eval" and class_names is None:
            class_names = _open_source(config, "train", None).class_names
        return open_voc_detection(folder, name, class_names, config.upright)
    if kind != "coco":
        return open_tfds_detection(
            config.source, config.data_dir, name, class_names, config.upright
        )
    train = coco_paths(folder, config.train_split, config.train_annotations, config.train_images)
    if split == "train":
        return open_coco(*train, name, class_names, config.masks)
    held_out = coco_paths(folder, name, config.eval_annotations, config.eval_images)
    class_names = class_names or tuple(read_categories(train[0]).values())
    return open_coco(*held_out, name, class_names, config.masks)


def _check_counts(source: DetectionSource, config: DetectionData) -> None:
    """Says how many images have more objects than there is room for."""
    counts = source.target_counts
    over = np.flatnonzero(counts > config.max_objects)
    if not len(over):
        return
    first = int(over[0])
    what = (
        f"data.max_objects is {config.max_objects}, but {len(over)} images of {config.source} have"
        f" more objects, up to {counts.max()}, the first image {source.annotations(first).image_id}"
    )
    if config.too_many == "stop":
        raise DataError(
            f"{what}; set --data.max_objects={counts.max()}, or --data.too_many=drop_smallest"
        )
    lost = int((counts[over] - config.max_objects).sum())
    logging.getLogger(__name__).warning("%s: up to %d, the smallest, are left out", what, lost)


def _check(config: DetectionData) -> None:
    """Rejects values that could only fail later, or silently do something else."""
    c = config
    rules = {
        "buckets": (
            bool(c.buckets) and min(map(min, c.buckets)) >= 1,
            "one or more heights and widths in pixels, as [[800,1088],[1088,800]]",
        ),
        "std": (min(c.std) > 0, "positive"),
        "max_objects": (c.max_objects >= 1, "1 or more"),
        "short_sides": (min(c.short_sides, default=1) >= 1, "positive numbers of pixels"),
        "long_side": (c.long_side >= 1, "a positive number of pixels"),
        "random_crop": (not c.random_crop or bool(c.short_sides), "false without short_sides"),
        "threads": (c.threads >= 0, "0 or more"),
        "workers": (c.workers >= 0, "0 or more"),
    }
    for field in ("train_annotations", "train_images", "eval_annotations", "eval_images"):
        of_coco = getattr(c, field) is None or c.source.partition(":")[0] == "coco"
        rules[field] = (of_coco, "none unless data.source=coco:DIR")
    for field, (allowed, rule) in rules.items():
        if not allowed:
            raise DataError(f"data.{field} is {getattr(c, field)}, but must be {rule}")
