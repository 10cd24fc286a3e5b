"""Detection data: one config says what to read, how to augment it, and the shapes of examples.

The augmentation is DETR's (arXiv 2005.12872): the length of the shorter side is drawn from a list,
and the longer side has a maximum; one image in two is cropped before. DETR pads each batch to its
largest image, so nearly every batch has a new shape. Here each image belongs to a *bucket* of a
fixed shape: the one in which it is shrunk least. If the image does not fit into its bucket after
the augmentation, it is shrunk until it fits.
"""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from zoo.data.annotations import Annotations, Joints
from zoo.data.augment.picture import (
    Picture,
    Size,
    clip_objects,
    fit_size,
    flip,
    hide_unlabelled,
    random_crop,
    resize_picture,
    select,
    shrink_to_fit,
)
from zoo.data.decode import decode_image
from zoo.data.errors import DataError
from zoo.data.formats.coco import read_categories
from zoo.data.loader import Dataset, Example
from zoo.data.object_files import coco_paths, open_coco, open_voc
from zoo.data.object_sources import DetectionSource, open_scenes, open_tfds_detection
from zoo.data.own import prepared

_CROP_SHORT_SIDES = (400, 500, 600)  # DETR's shorter sides before a crop
_CROP_SIDES = (384, 600)  # DETR's smallest and largest side of a crop


@dataclasses.dataclass(frozen=True)
class DetectionData:
    """What to train and evaluate on; the defaults are the embedded digit scenes.

    Attributes:
        source: ``digit_scenes``; ``coco:DIR`` with the folders of COCO's downloads, or with the
            paths in `train_annotations` to `eval_images`; ``voc:DIR`` with the folders of PASCAL
            VOC's devkit, or with xml files beside the images of each split; or a TFDS set such as
            ``voc/2007``.
        data_dir: Folder of TFDS's data sets; None is ``~/tensorflow_datasets``.
        train_split: ``train``, ``train2017``, ..., or a slice such as ``train[:90%]``. COCO's and
            VOC's images are sliced in a fixed shuffled order. Digit scenes have only slices with a
            number of scenes, from the first on: ``train[:1000]``.
        eval_split: The same for evaluation.
        train_annotations: Path of COCO's json in DIR; None is
            ``annotations/instances_SPLIT.json``, or with `keypoints`
            ``annotations/person_keypoints_SPLIT.json``.
        train_images: Path of the folder of images in DIR; None is ``SPLIT``.
        eval_annotations: The same for evaluation.
        eval_images: The same for evaluation.
        buckets: Heights and widths of padded images; the bucket of an image depends only on the
            size of that image.
        mean: Mean of the pixels on a scale of 0..1, for each channel; None means the model's own,
            which a run fills in.
        std: Standard deviation on the same scale; None means the model's own.
        max_objects: Largest number of training targets in an image.
        too_many: What happens if an image has more: ``stop`` raises an error before the run begins;
            ``drop_smallest`` leaves out the smallest objects.
        short_sides: The length of the shorter side is drawn from these in training; evaluation
            takes the largest. If this is empty, images keep their size.
        long_side: Maximum length of the longer side.
        random_crop: Crop training images as DETR does, with probability 1/2.
        flip: Mirror training images left and right with probability 1/2.
        masks: Whether examples have instance masks; COCO's annotations must have them then.
        keypoints: Whether examples have keypoints; COCO's annotations must have them then.
        upright: Apply EXIF's orientation, as annotation tools do when they show an image. Set it to
            False if the boxes refer to the pixels as they are stored.
        on_error: What happens if an image cannot be read: ``stop`` ends the run with an error;
            ``skip`` leaves the image out, counts it and logs its name.
        threads: Threads that read and decode.
        workers: Worker processes with that many threads each; with 0, this process does the work.
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
    mean: tuple[float, float, float] | None = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] | None = (0.5, 0.5, 0.5)
    max_objects: int = 6
    too_many: Literal["stop", "drop_smallest"] = "stop"
    short_sides: tuple[int, ...] = ()
    long_side: int = 1333
    random_crop: bool = False
    flip: bool = False
    masks: bool = False
    keypoints: bool = False
    upright: bool = True
    on_error: Literal["stop", "skip"] = "stop"
    threads: int = 16
    workers: int = 0


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """Decodes; flips, crops and resizes in DETR's order; pads to the image's bucket."""

    config: DetectionData
    joints: Joints | None = None

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """{"image", "name", "index", "annotations"} -> see `open_detection`."""
        c = self.config
        picture = _picture(example, c)
        if c.flip and rng.random() < 0.5:
            picture = flip(picture, None if self.joints is None else self.joints.mirrored)
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
        return _example(picture, bucket, example, c, self.joints)


@dataclasses.dataclass(frozen=True)
class EvalTransform:
    """Decodes, resizes to the largest of the short sides, and pads to the image's bucket."""

    config: DetectionData
    joints: Joints | None = None

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """{"image", "name", "index", "annotations"} -> see `open_detection`."""
        picture = _picture(example, self.config)
        size = evaluated_size(picture.size, self.config)
        bucket = choose_bucket(picture.size, self.config)
        picture = resize_picture(picture, shrink_to_fit(size, bucket))
        return _example(picture, bucket, example, self.config, self.joints)


def evaluated_size(size: Size, config: DetectionData) -> Size:
    """The size of an image of this size in evaluation, before it is fitted into its bucket."""
    return fit_size(size, max(config.short_sides), config.long_side) if config.short_sides else size


def choose_bucket(size: Size, config: DetectionData) -> Size:
    """The bucket that shrinks an image of this size least in evaluation; if equal, the smallest."""
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
    keypoints = None
    if config.keypoints and annotations.keypoints is not None:
        keypoints = hide_unlabelled(annotations.keypoints.astype(np.float32))
    picture = Picture(image, annotations.boxes, annotations.labels, masks, keypoints=keypoints)
    return clip_objects(select(picture, annotations.targets))


def _orientation_hint(turned: bool, upright: bool) -> str:
    if not turned:
        return ""
    return f"; EXIF's orientation may be why: try --data.upright={str(not upright).lower()}"


def _example(
    picture: Picture,
    bucket: Size,
    raw: Mapping[str, Any],
    config: DetectionData,
    joints: Joints | None,
) -> Example:
    """Pads image and objects to fixed shapes."""
    areas = (picture.boxes[:, 2:] - picture.boxes[:, :2]).prod(axis=1)
    largest = np.argsort(-areas, kind="stable")[: config.max_objects]
    picture = select(picture, np.sort(largest))
    (height, width), count = picture.size, len(picture.labels)
    example = _empty(bucket, config, joints)
    example["image"][:height, :width] = picture.image
    example["boxes"][:count] = picture.boxes
    example["labels"][:count] = picture.labels
    example["box_valid"][:count] = True
    if picture.masks is not None:
        example["masks"][:count, :height, :width] = picture.masks
    if picture.keypoints is not None:
        example["keypoints"][:count] = picture.keypoints
    return {
        **example,
        "size": np.array([height, width], np.int32),
        "valid": np.bool_(True),
        "index": np.int32(raw["index"]),
        "original_size": np.array(raw["annotations"].size, np.int32),
    }


def _empty(bucket: Size, config: DetectionData, joints: Joints | None) -> dict[str, Any]:
    """An all-padding example: a black image without objects, as large as the bucket.

    All of its pixels count as image, so that their number, by which models divide, is not 0.
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
    if joints is not None:
        example["keypoints"] = np.zeros((m, len(joints.names), 3), np.float32)
    return example


def open_detection(
    config: DetectionData,
    split: Literal["train", "eval"],
    class_names: tuple[str, ...] | None = None,
) -> Dataset:
    """Opens the data of a config for training or for evaluation.

    Examples have, for a bucket of h x w pixels and m = `max_objects`:

    - ``image`` uint8 [h w 3], the picture at the top left, zeros elsewhere;
    - ``size`` int32 [2], the picture's height and width;
    - ``boxes`` float32 [m 4], ``xyxy`` in pixels of the picture; ``labels`` int32 [m];
      ``box_valid`` bool [m], True where there is an object;
    - ``masks`` bool [m h w], with `masks`;
    - ``keypoints`` float32 [m j 3], with `keypoints`: x and y in pixels of the picture, with no
      offset to the annotated values, and visibility: 0 not labelled or cropped away (then x and y
      are 0), 1 hidden, 2 visible; ``dataset.source.joints`` has the names of the j joints;
    - ``valid`` bool [];
    - ``index`` int32 [], the image's position in the source, -1 for padding;
      ``original_size`` int32 [2], its height and width there.

    Crowds and objects that PASCAL VOC marks as difficult are left out. They are in
    ``dataset.source.annotations(index)``, which evaluation uses: see
    `zoo.data.annotations.Annotations` and `zoo.data.object_sources.DetectionSource`.

    Args:
        config: What to read.
        split: Which split of the config to open; it also decides the transform.
        class_names: The classes that a model was trained on; the label of a class is the position
            of its name. The data may lack some of them. None takes those of the training data.

    Raises:
        DataError: If a field has an invalid value, the source or split does not exist, a class is
            unknown, or annotations are invalid.
    """
    _check(config)
    prepared(config, config.buckets[0])  # raises an error if mean or std is None
    source = _open_source(config, split, class_names)
    if not len(source):
        raise DataError(f"data {config.source!r} has no images in this split")
    _check_counts(source, config)
    joints = source.joints
    if joints is not None and config.flip:
        _check_mirrored(joints, config)
    groups = None
    if len(config.buckets) > 1:
        sizes, of_size = np.unique(source.sizes, axis=0, return_inverse=True)
        chosen = [config.buckets.index(choose_bucket((h, w), config)) for h, w in sizes.tolist()]
        groups = np.array(chosen, np.int32)[of_size]
    return Dataset(
        source=source,
        transform=(TrainTransform if split == "train" else EvalTransform)(config, joints),
        padding=tuple(_empty(bucket, config, joints) for bucket in config.buckets),
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
    kind, colon, folder = config.source.partition(":")
    kind = kind if colon else ""
    if kind != "coco" and config.masks:
        raise DataError(f"data.masks: {config.source} has no masks; digit_scenes and coco:DIR do")
    if kind == "voc":
        if split == "eval" and class_names is None:
            class_names = _open_source(config, "train", None).class_names
        return open_voc(folder, name, class_names, config.upright)
    if kind != "coco":
        return open_tfds_detection(
            config.source, config.data_dir, name, class_names, config.upright
        )
    parts = {"masks": config.masks, "keypoints": config.keypoints}
    train = coco_paths(
        folder,
        config.train_split,
        config.train_annotations,
        config.train_images,
        config.keypoints,
    )
    if split == "train":
        return open_coco(*train, name, class_names, **parts)
    held_out = coco_paths(
        folder, name, config.eval_annotations, config.eval_images, config.keypoints
    )
    class_names = class_names or tuple(read_categories(train[0]).values())
    return open_coco(*held_out, name, class_names, **parts)


def _check_mirrored(joints: Joints, config: DetectionData) -> None:
    """Raises an error if the joints have no names that say which are left and right."""
    if not joints.named:
        raise DataError(
            f"data.flip: {config.source} does not name its joints: its category needs a list"
            " 'keypoints' of names such as left_eye, or set --data.flip=false"
        )
    _ = joints.mirrored


def _check_counts(source: DetectionSource, config: DetectionData) -> None:
    """Raises an error or logs a warning if images have more objects than `max_objects`."""
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
    """Rejects values that would fail later, or would have an unintended effect."""
    c = config
    of_coco = c.source.partition(":")[0] == "coco"
    rules = {
        "buckets": (
            bool(c.buckets) and min(map(min, c.buckets)) >= 1,
            "one or more heights and widths in pixels, as [[800,1088],[1088,800]]",
        ),
        "std": (c.std is None or min(c.std) > 0, "positive"),
        "max_objects": (c.max_objects >= 1, "1 or more"),
        "short_sides": (min(c.short_sides, default=1) >= 1, "positive numbers of pixels"),
        "long_side": (c.long_side >= 1, "a positive number of pixels"),
        "random_crop": (not c.random_crop or bool(c.short_sides), "false without short_sides"),
        "keypoints": (not c.keypoints or of_coco, "false unless data.source=coco:DIR"),
        "threads": (c.threads >= 0, "0 or more"),
        "workers": (c.workers >= 0, "0 or more"),
    }
    for field in ("train_annotations", "train_images", "eval_annotations", "eval_images"):
        rules[field] = (getattr(c, field) is None or of_coco, "none unless data.source=coco:DIR")
    for field, (allowed, rule) in rules.items():
        if not allowed:
            raise DataError(f"data.{field} is {getattr(c, field)}, but must be {rule}")
