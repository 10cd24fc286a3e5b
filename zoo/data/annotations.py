"""Annotated objects as columns: of one image, and of all images of a split."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32

from zoo.data.errors import DataError, some
from zoo.ops.ragged import lengths_to_offsets, spread
from zoo.ops.rle import Masks


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The objects of one image as they were annotated, in pixels of the image as it is stored.

    Attributes:
        image_id: The data set's own name for the image.
        size: Height and width.
        boxes_xywh: Left, top, width, height.
        labels: Positions among the source's class names.
        areas: Square pixels, as annotated.
        crowd: The region holds many objects: no training target, and ignored in evaluation.
        difficult: PASCAL VOC's mark, to the same effect.
        masks: None where the source has none, or was opened without.
    """

    image_id: int | str
    size: tuple[int, int]
    boxes_xywh: Float64[np.ndarray, "n 4"]
    labels: Int32[np.ndarray, " n"]
    areas: Float64[np.ndarray, " n"]
    crowd: Bool[np.ndarray, " n"]
    difficult: Bool[np.ndarray, " n"]
    masks: Masks | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def boxes(self) -> Float32[np.ndarray, "n 4"]:
        """``xyxy``."""
        return xywh_to_xyxy(self.boxes_xywh).astype(np.float32)

    @property
    def targets(self) -> Bool[np.ndarray, " n"]:
        """True for what a detector is trained to find."""
        return ~(self.crowd | self.difficult)


@dataclasses.dataclass(frozen=True)
class ObjectTable:
    """The objects of i images, those of each image one after the other.

    Attributes:
        image_ids: One an image.
        sizes: Height and width of each image.
        offsets: Image i has the rows ``offsets[i]`` to ``offsets[i + 1]`` of what follows.
        boxes_xywh: See `Annotations`, as for the rest.
        labels: One a row.
        areas: One a row.
        crowd: One a row.
        difficult: One a row.
    """

    image_ids: Sequence[int | str]
    sizes: Int[np.ndarray, "i 2"]
    offsets: Int[np.ndarray, " i+1"]
    boxes_xywh: Float64[np.ndarray, "t 4"]
    labels: Int32[np.ndarray, " t"]
    areas: Float64[np.ndarray, " t"]
    crowd: Bool[np.ndarray, " t"]
    difficult: Bool[np.ndarray, " t"]

    def __len__(self) -> int:
        return len(self.image_ids)

    def rows(self, index: int) -> slice:
        """The rows of an image."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def annotations(self, index: int, masks: Masks | None = None) -> Annotations:
        """The objects of an image."""
        rows = self.rows(index)
        height, width = self.sizes[index].tolist()
        return Annotations(
            self.image_ids[index],
            (height, width),
            self.boxes_xywh[rows],
            self.labels[rows],
            self.areas[rows],
            self.crowd[rows],
            self.difficult[rows],
            masks,
        )

    def take(self, images: Int[np.ndarray, " j"]) -> "ObjectTable":
        """The objects of some of the images."""
        lengths = np.diff(self.offsets)[images]
        rows = spread(self.offsets[images], lengths)
        columns = (self.boxes_xywh, self.labels, self.areas, self.crowd, self.difficult)
        return ObjectTable(
            [self.image_ids[image] for image in images.tolist()],
            self.sizes[images],
            lengths_to_offsets(lengths),
            *(column[rows] for column in columns),
        )

    def target_counts(self) -> Int[np.ndarray, " i"]:
        """How many training targets each image has at most."""
        owners = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        return np.bincount(owners[~(self.crowd | self.difficult)], minlength=len(self))


def xywh_to_xyxy(boxes_xywh: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n 4"]:
    """On the host what `zoo.ops.boxes` does on the device."""
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def labels_of(
    names: Sequence[str], class_names: tuple[str, ...], what: str
) -> Int32[np.ndarray, " n"]:
    """The position of each name among a model's classes.

    Raises:
        DataError: If a name is none of the classes, or several of them.
    """
    if unknown := [name for name in names if name not in class_names]:
        raise DataError(
            f"{what}: {some(unknown)} is none of the model's classes; these are {some(class_names)}"
        )
    if twice := [name for name in names if names.count(name) + class_names.count(name) > 2]:
        raise DataError(f"{what}: several categories have the name {twice[0]!r}")
    return np.array([class_names.index(name) for name in names], np.int32)
