"""Turns an image and its annotations into an example of a fixed shape.

The augmentation is DETR's (arXiv 2005.12872): the length of the shorter side is drawn from a list,
and the longer side has a maximum; one image in two is cropped before. DETR pads each batch to its
largest image, so nearly every batch has a new shape. Here each image belongs to a *bucket* of a
fixed shape: the one in which it is shrunk least. If the image does not fit into its bucket after
the augmentation, it is shrunk until it fits.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.data.annotations import Annotations, Joints
from zoo.data.augment.mask_crops import crop_masks
from zoo.data.augment.picture import (
    Picture,
    Size,
    clip_objects,
    fit_size,
    flip,
    hide_unlabelled,
    letterbox_picture,
    random_crop,
    resize_picture,
    select,
    shrink_to_fit,
)
from zoo.data.augment.scale_jitter import jitter_scale
from zoo.data.augment.zoom import random_zoom
from zoo.data.decode import example_image
from zoo.data.detection_config import DetectionData
from zoo.data.errors import DataError
from zoo.data.loader import Example
from zoo.data.proposals import ProposalTable
from zoo.data.transforms import HostImage

_CROP_SHORT_SIDES = (400, 500, 600)  # DETR's shorter sides before a crop
_CROP_SIDES = (384, 600)  # DETR's smallest and largest side of a crop


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """Decodes; flips, crops and resizes in DETR's order; pads to the image's bucket."""

    config: DetectionData
    joints: Joints | None = None
    proposals: ProposalTable | None = None

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """{"image", "name", "index", "annotations"} -> see `open_detection`."""
        c = self.config
        picture = _picture(example, c, self.proposals)
        if c.flip and rng.random() < 0.5:
            picture = flip(picture, None if self.joints is None else self.joints.mirrored)
        if c.random_crop and rng.random() < 0.5:
            side = int(rng.choice(_CROP_SHORT_SIDES))
            unbounded = side * max(picture.size)
            picture = resize_picture(picture, fit_size(picture.size, side, unbounded), fast=True)
            picture = random_crop(picture, _CROP_SIDES, rng)
        if c.zoom is not None:
            picture = random_zoom(picture, c.zoom_side, c.zoom, rng)
        size = picture.size
        if c.short_sides:
            size = fit_size(size, int(rng.choice(c.short_sides)), c.long_side)
        bucket = choose_bucket(example["annotations"].size, c)
        if c.letterbox:
            picture = letterbox_picture(picture, bucket)
        elif c.scale_jitter is not None:
            picture = jitter_scale(picture, bucket, c.scale_jitter, rng)
        else:
            picture = resize_picture(picture, shrink_to_fit(size, bucket), fast=True)
        return _example(picture, bucket, example, c, self.joints)


@dataclasses.dataclass(frozen=True)
class EvalTransform:
    """Decodes, resizes to the largest of the short sides, and pads to the image's bucket.

    With `letterbox` the image is put into the middle of the bucket instead.
    """

    config: DetectionData
    joints: Joints | None = None
    proposals: ProposalTable | None = None

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """{"image", "name", "index", "annotations"} -> see `open_detection`."""
        picture = _picture(example, self.config, self.proposals)
        bucket = choose_bucket(picture.size, self.config)
        if self.config.letterbox:
            picture = letterbox_picture(picture, bucket)
        else:
            size = evaluated_size(picture.size, self.config)
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


def _picture(
    example: Mapping[str, Any], config: DetectionData, proposals: ProposalTable | None
) -> Picture:
    """The decoded image, or its chip, with its training targets and its proposals."""
    annotations: Annotations = example["annotations"]
    image = _pixels(example, config.upright)
    masks, crops = None, None
    if config.mask_size is not None and annotations.masks is not None:
        inside = np.clip(annotations.boxes, 0, np.tile(image.shape[1::-1], 2)).astype(np.float32)
        crops = crop_masks(annotations.masks, inside, config.mask_size)
    elif config.masks and annotations.masks is not None:
        masks = np.array(annotations.masks.to_arrays(), bool).reshape(-1, *image.shape[:2])
    keypoints = None
    if config.keypoints and annotations.keypoints is not None:
        keypoints = hide_unlabelled(annotations.keypoints.astype(np.float32))
    picture = Picture(
        image,
        annotations.boxes,
        annotations.labels,
        masks,
        keypoints=keypoints,
        proposals=None if proposals is None else proposals[example["index"]],
        mask_crops=crops,
        ignored=annotations.ignored if config.chips else None,
    )
    used = annotations.targets
    if picture.ignored is not None:
        used = used | picture.ignored
    return clip_objects(select(picture, used))


def _pixels(example: Mapping[str, Any], upright: bool) -> HostImage:
    """The decoded image or its chip; raises DataError if the annotations are of another size."""
    image = example_image(example, upright=upright)
    chip = example.get("chip")
    height, width = example["annotations"].size if chip is None else chip.image_size
    if image.shape[:2] != (height, width):
        raise DataError(
            f"{example['name']}: the image has {image.shape[0]} x {image.shape[1]} pixels, but"
            f" its annotations are for {height} x {width} (height x width)"
            + _orientation_hint(image.shape[:2] == (width, height), upright)
        )
    return image if chip is None else chip.pixels(image)


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
    largest = np.sort(largest)
    if picture.ignored is not None:  # those that are not ignored come first
        largest = largest[np.argsort(picture.ignored[largest], kind="stable")]
    picture = select(picture, largest)
    (height, width), count = picture.size, len(picture.labels)
    example = empty_example(bucket, config, joints)
    example["image"][:height, :width] = picture.image
    example["boxes"][:count] = picture.boxes
    example["labels"][:count] = picture.labels
    example["box_valid"][:count] = True
    if picture.ignored is not None:
        example["box_valid"][:count] = ~picture.ignored
        example["box_ignored"][:count] = picture.ignored
    if picture.masks is not None:
        example["masks"][:count, :height, :width] = picture.masks
    if picture.mask_crops is not None:
        example["masks"][:count] = picture.mask_crops
    if picture.keypoints is not None:
        example["keypoints"][:count] = picture.keypoints
    if picture.proposals is not None:
        example["proposals"][: len(picture.proposals)] = picture.proposals
        example["proposals_valid"][: len(picture.proposals)] = True
    return {
        **example,
        "size": np.array([height, width], np.int32),
        "valid": np.bool_(True),
        "index": np.int32(raw["index"]),
        "original_size": np.array(raw["annotations"].size, np.int32),
    }


def empty_example(bucket: Size, config: DetectionData, joints: Joints | None) -> dict[str, Any]:
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
    if config.chips:
        example["box_ignored"] = np.zeros(m, bool)
    if config.masks:
        crops = config.mask_size
        shape, kind = (bucket, bool) if crops is None else ((crops, crops), np.uint8)
        example["masks"] = np.zeros((m, *shape), kind)
    if joints is not None:
        example["keypoints"] = np.zeros((m, len(joints.names), 3), np.float32)
    if config.proposals is not None:
        count = config.search.num_proposals
        example["proposals"] = np.zeros((count, 4), np.float32)
        example["proposals_valid"] = np.zeros(count, bool)
    return example
