"""Annotated objects as columns, for one image and for all images of a split."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32

from zoo.data.errors import DataError, some
from zoo.ops.ragged import lengths_to_offsets, spread
from zoo.ops.rle import Masks

_SIDES = (("left", "right"), ("right", "left"))


@dataclasses.dataclass(frozen=True)
class Joints:
    """The joints that the keypoints of an object mark.

    >>> Joints(("nose", "left_eye", "right_eye")).mirrored.tolist()
    [0, 2, 1]

    Attributes:
        names: Name of each joint.
        skeleton: The bones to draw in pictures: pairs of positions in `names`.
        named: False if the data has no names for them; then `names` is ``0``, ``1``, ...
    """

    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...] = ()
    named: bool = True

    @property
    def limbs(self) -> tuple[tuple[int, int], ...]:
        """The `skeleton`, or without one that of COCO if these are COCO's joints."""
        return COCO_JOINTS.skeleton if self.names == COCO_JOINTS.names else self.skeleton

    @functools.cached_property
    def mirrored(self) -> Int[np.ndarray, " j"]:
        """For each joint of a mirrored picture, the position of that joint in the original.

        A joint whose name begins with ``left`` changes places with the one whose name begins with
        ``right`` instead and is otherwise the same.

        Raises:
            DataError: If such a joint has no counterpart.
        """
        positions = {name: i for i, name in enumerate(self.names)}
        found = []
        for name in self.names:
            other = name
            for side, opposite in _SIDES:
                if name.startswith(side):
                    other = opposite + name.removeprefix(side)
            if other not in positions:
                raise DataError(f"joint {name!r} has no counterpart {other!r} to mirror it to")
            found.append(positions[other])
        return np.array(found, np.int64)


COCO_JOINTS = Joints(
    (
        "nose",
        *("left_eye", "right_eye", "left_ear", "right_ear"),
        *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
        *("left_wrist", "right_wrist", "left_hip", "right_hip"),
        *("left_knee", "right_knee", "left_ankle", "right_ankle"),
    ),
    (
        *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12)),
        *((5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
        *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    ),
)


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The objects of one image as they were annotated, in pixels of the original image.

    Attributes:
        image_id: The id of the image in the data set.
        size: Height and width.
        boxes_xywh: Left, top, width, height.
        labels: Positions in the class names of the source.
        areas: Square pixels, as annotated.
        crowd: True for regions of many objects: not trained on, and ignored in evaluation.
        difficult: True for objects marked as difficult in PASCAL VOC: not trained on, and ignored
            in evaluation.
        masks: None if the source has no masks, or was opened without them.
        keypoints: x, y and visibility (0 not labelled, 1 hidden, 2 visible) of each joint, as
            annotated; None if the source has no keypoints, or was opened without them.
        num_keypoints: Number of labelled joints, as the file says, or counted if it does not say;
            None without keypoints.
        ignored: In chips: True for objects that training ignores, neither objects nor background:
            see `zoo.data.chip_source.ChipSource`. None if there are none.
    """

    image_id: int | str
    size: tuple[int, int]
    boxes_xywh: Float64[np.ndarray, "n 4"]
    labels: Int32[np.ndarray, " n"]
    areas: Float64[np.ndarray, " n"]
    crowd: Bool[np.ndarray, " n"]
    difficult: Bool[np.ndarray, " n"]
    masks: Masks | None = None
    keypoints: Float64[np.ndarray, "n j 3"] | None = None
    num_keypoints: Int[np.ndarray, " n"] | None = None
    ignored: Bool[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def boxes(self) -> Float32[np.ndarray, "n 4"]:
        """The boxes as ``xyxy``."""
        return xywh_to_xyxy(self.boxes_xywh).astype(np.float32)

    @property
    def targets(self) -> Bool[np.ndarray, " n"]:
        """True for the objects that a detector is trained to find."""
        others = self.crowd | self.difficult
        return ~(others if self.ignored is None else others | self.ignored)


@dataclasses.dataclass(frozen=True)
class ObjectTable:
    """The objects of i images; the rows of one image follow each other.

    Attributes:
        image_ids: Id of each image.
        sizes: Height and width of each image.
        offsets: Image i has the rows from ``offsets[i]`` up to, but not including,
            ``offsets[i + 1]`` of the columns below.
        boxes_xywh: Box of each row; for this and the columns below see `Annotations`.
        labels: Label of each row.
        areas: Area of each row.
        crowd: Whether each row is a crowd.
        difficult: Whether each row is difficult.
        keypoints: Keypoints of each row, or None.
        num_keypoints: Number of labelled joints of each row, or None.
    """

    image_ids: Sequence[int | str]
    sizes: Int[np.ndarray, "i 2"]
    offsets: Int[np.ndarray, " i+1"]
    boxes_xywh: Float64[np.ndarray, "t 4"]
    labels: Int32[np.ndarray, " t"]
    areas: Float64[np.ndarray, " t"]
    crowd: Bool[np.ndarray, " t"]
    difficult: Bool[np.ndarray, " t"]
    keypoints: Float64[np.ndarray, "t j 3"] | None = None
    num_keypoints: Int[np.ndarray, " t"] | None = None

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
            None if self.keypoints is None else self.keypoints[rows],
            None if self.num_keypoints is None else self.num_keypoints[rows],
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
            keypoints=None if self.keypoints is None else self.keypoints[rows],
            num_keypoints=None if self.num_keypoints is None else self.num_keypoints[rows],
        )

    def target_counts(self) -> Int[np.ndarray, " i"]:
        """Largest possible number of training targets in each image."""
        owners = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        return np.bincount(owners[~(self.crowd | self.difficult)], minlength=len(self))


def xywh_to_xyxy(boxes_xywh: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n 4"]:
    """Left, top, width, height to left, top, right, bottom, in numpy."""
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def labels_of(
    names: Sequence[str], class_names: tuple[str, ...], what: str
) -> Int32[np.ndarray, " n"]:
    """The position of each name among a model's classes.

    Raises:
        DataError: If a name is not a class, or is there twice in either list.
    """
    if unknown := [name for name in names if name not in class_names]:
        raise DataError(
            f"{what}: {some(unknown)} is none of the model's classes; these are {some(class_names)}"
        )
    if twice := [name for name in names if names.count(name) + class_names.count(name) > 2]:
        raise DataError(f"{what}: several categories have the name {twice[0]!r}")
    return np.array([class_names.index(name) for name in names], np.int32)
