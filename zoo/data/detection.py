"""Opens the data of a detection config: the digit scenes, COCO, PASCAL VOC or a TFDS set."""

import dataclasses
import logging
from typing import Literal

import numpy as np

from zoo.data.annotations import Joints
from zoo.data.chip_source import open_chips
from zoo.data.detection_config import DetectionData, check_config
from zoo.data.detection_examples import EvalTransform, TrainTransform, choose_bucket, empty_example
from zoo.data.errors import DataError
from zoo.data.formats.coco import read_categories
from zoo.data.formats.coco_results import read_proposals
from zoo.data.loader import Dataset
from zoo.data.object_files import AnnotatedImages, coco_paths, open_coco, open_voc
from zoo.data.object_sources import DetectionSource, open_scenes, open_tfds_detection
from zoo.data.own import prepared
from zoo.data.proposals import Track, proposals_of, silent


def open_detection(
    config: DetectionData,
    split: Literal["train", "eval"],
    class_names: tuple[str, ...] | None = None,
    *,
    track: Track = silent,
) -> Dataset:
    """Opens the data of a config for training or for evaluation.

    Examples have, for a bucket of h x w pixels and m = `max_objects`:

    - ``image`` uint8 [h w 3], the picture at the top left, zeros elsewhere;
    - ``size`` int32 [2], the picture's height and width;
    - ``boxes`` float32 [m 4], ``xyxy`` in pixels of the picture; ``labels`` int32 [m];
      ``box_valid`` bool [m], True where there is an object; ``box_ignored`` bool [m], with
      `chips`, True where there is one that is neither object nor background;
    - ``masks`` bool [m h w], with `masks`; with `mask_size` s instead uint8 [m s s], cells in the
      object's box with the share of their area that is in the object, 255 for all of it;
    - ``keypoints`` float32 [m j 3], with `keypoints`: x and y in pixels of the picture, with no
      offset to the annotated values, and visibility: 0 not labelled or cropped away (then x and y
      are 0), 1 hidden, 2 visible; ``dataset.source.joints`` has the names of the j joints;
    - ``proposals`` float32 [r 4] and ``proposals_valid`` bool [r], with `proposals`, for r =
      `search.num_proposals`: as the boxes;
    - ``valid`` bool [];
    - ``index`` int32 [], the image's position in the source, -1 for padding;
      ``original_size`` int32 [2], its height and width there.

    With `zoom`, an image of training is a square part of `zoom_side`, in a bucket of this size.
    With `chips`, an image of training is a chip, in a bucket of `chip_side`, and its position is in
    `zoo.data.chip_source.ChipSource`.

    Crowds and objects that PASCAL VOC marks as difficult are left out. They are in
    ``dataset.source.annotations(index)``, which evaluation uses: see
    `zoo.data.annotations.Annotations` and `zoo.data.object_sources.DetectionSource`.

    Args:
        config: What to read.
        split: Which split of the config to open; it also decides the transform.
        class_names: The classes that a model was trained on; the label of a class is the position
            of its name. The data may lack some of them. None takes those of the training data.
        track: Shows how many of the images have proposals, while they are computed.

    Raises:
        DataError: If a field has an invalid value, the source or split does not exist, a class is
            unknown, or annotations are invalid.
    """
    check_config(config)
    prepared(config, config.buckets[0])  # raises an error if mean or std is None
    source = _open_source(config, split, class_names)
    if not len(source):
        raise DataError(f"data {config.source!r} has no images in this split")
    config = _of_split(config, split)
    if config.chips:
        source = _cut(source, config, track)
    _check_counts(source, config)
    joints = source.joints
    if config.sigmas and len(config.sigmas) != (count := len(joints.names if joints else ())):
        raise DataError(f"data.sigmas are {len(config.sigmas)}, but the data have {count} joints")
    if joints is not None and config.flip:
        _check_mirrored(joints, config)
    searched = proposals_of(source, config, split, track) if config.proposals else None
    groups = None
    if len(config.buckets) > 1:
        sizes, of_size = np.unique(source.sizes, axis=0, return_inverse=True)
        chosen = [config.buckets.index(choose_bucket((h, w), config)) for h, w in sizes.tolist()]
        groups = np.array(chosen, np.int32)[of_size]
    return Dataset(
        source=source,
        transform=(TrainTransform if split == "train" else EvalTransform)(config, joints, searched),
        padding=tuple(empty_example(bucket, config, joints) for bucket in config.buckets),
        class_names=source.class_names,
        on_error=config.on_error,
        threads=config.threads,
        workers=config.workers,
        groups=groups,
    )


def _cut(source: DetectionSource, config: DetectionData, track: Track) -> DetectionSource:
    path, bare = config.chip_proposals, source
    if isinstance(source, AnnotatedImages):
        bare = dataclasses.replace(source, segmentations=None)
    proposals = None if path is None else read_proposals(path)
    return open_chips(source, config, bare.annotations, proposals, track)


def _of_split(config: DetectionData, split: Literal["train", "eval"]) -> DetectionData:
    """The config without what is not for this split; parts of images have one shape and size."""
    if split == "eval" or not (config.chips or config.zoom):
        return dataclasses.replace(config, chips=(), chip_proposals=None, zoom=None)
    side = config.chip_side if config.chips else config.zoom_side
    return dataclasses.replace(config, buckets=((side, side),), short_sides=())


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
