"""Ground truth and detections as columns: the input of the detection evaluators."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from zoo.ops.rle import Masks


@dataclasses.dataclass(frozen=True)
class ObjectRows:
    """Annotated objects, one in each row.

    Attributes:
        images: Image ids.
        categories: Category ids.
        boxes_xywh: Left, top, width, height in absolute pixels.
        areas: In square pixels; decides whether an object is small, medium or large.
        crowd: True for a region of many objects, which matches any number of detections.
        ignored: True for objects that do not change the score, found or missed (COCO's crowds,
            VOC's ``difficult``).
        masks: Needed to compare masks.
        keypoints: x, y and visibility (0 unlabelled, 1 hidden, 2 visible) of k joints.
        num_keypoints: Number of labelled joints; if keypoints are compared, an object without any
            is ignored. None: `ignored` says it.
    """

    images: Int[np.ndarray, " n"]
    categories: Int[np.ndarray, " n"]
    boxes_xywh: Float[np.ndarray, "n 4"]
    areas: Float[np.ndarray, " n"]
    crowd: Bool[np.ndarray, " n"]
    ignored: Bool[np.ndarray, " n"]
    masks: Masks | None = None
    keypoints: Float[np.ndarray, "n k 3"] | None = None
    num_keypoints: Int[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclasses.dataclass(frozen=True)
class DetectionRows:
    """Predicted objects, one in each row; rows of equal score keep their order.

    Attributes:
        images: Image ids.
        categories: Category ids.
        scores: Confidence; higher is better, any scale.
        boxes_xywh: Left, top, width, height in absolute pixels.
        areas: In square pixels; an unmatched detection outside an area range does not count in that
            range.
        masks: Needed to compare masks.
        keypoints: x, y and confidence (unused) of k joints.
    """

    images: Int[np.ndarray, " n"]
    categories: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    boxes_xywh: Float[np.ndarray, "n 4"]
    areas: Float[np.ndarray, " n"]
    masks: Masks | None = None
    keypoints: Float[np.ndarray, "n k 3"] | None = None

    def __len__(self) -> int:
        return len(self.images)


Records = TypeVar("Records", ObjectRows, DetectionRows)


def take(records: Records, rows: np.ndarray) -> Records:
    """The rows that an integer index or a boolean mask selects."""
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    columns = {}
    for field in dataclasses.fields(records):
        column = getattr(records, field.name)
        if column is not None:
            by_index = isinstance(column, np.ndarray)
            columns[field.name] = column[rows] if by_index else column.take(rows)
    return type(records)(**columns)


def concatenate(parts: Sequence[Records]) -> Records:
    """All rows of all parts, in order.

    Raises:
        ValueError: If only some of the parts have masks, or keypoints.
    """
    parts = [part for part in parts if len(part)] or list(parts[:1])
    columns = {}
    for field in dataclasses.fields(parts[0]):
        values = [getattr(part, field.name) for part in parts]
        missing = sum(value is None for value in values)
        if 0 < missing < len(values):
            raise ValueError(f"{missing} of {len(values)} batches have no {field.name}")
        if not missing:
            array = isinstance(values[0], np.ndarray)
            join = np.concatenate if array else values[0].concatenate
            columns[field.name] = values[0] if len(values) == 1 else join(values)
    return type(parts[0])(**columns)


def objects_from_padded(
    image_ids: Int[np.ndarray, " b"],
    boxes: Float[np.ndarray, "b m 4"],
    categories: Int[np.ndarray, "b m"],
    valid: Bool[np.ndarray, "b m"],
    crowd: Bool[np.ndarray, "b m"] | None = None,
    areas: Float[np.ndarray, "b m"] | None = None,
) -> ObjectRows:
    """Converts a padded batch of targets, in numpy or on a device, to rows.

    Args:
        image_ids: Id of each image.
        boxes: ``xyxy`` in pixels of the original image, to which the area ranges apply.
        categories: Category ids.
        valid: True where there is an object.
        crowd: True for crowd regions; None if no object is one.
        areas: In square pixels; None takes the areas of the boxes.
    """
    images, labels, boxes_xywh = _rows(image_ids, boxes, categories, valid)
    crowds = np.zeros(len(images), bool) if crowd is None else _flat(crowd, valid)
    area = boxes_xywh[:, 2:].prod(axis=1) if areas is None else _flat(areas, valid).astype(float)
    return ObjectRows(images, labels, boxes_xywh, area, crowds, crowds)


def detections_from_padded(
    image_ids: Int[np.ndarray, " b"],
    boxes: Float[np.ndarray, "b q 4"],
    categories: Int[np.ndarray, "b q"],
    scores: Float[np.ndarray, "b q"],
    valid: Bool[np.ndarray, "b q"],
) -> DetectionRows:
    """Converts a padded batch of predictions, in numpy or on a device, to rows.

    Args:
        image_ids: Id of each image.
        boxes: ``xyxy`` in pixels of the same image as the boxes of the targets.
        categories: Category ids.
        scores: Confidences.
        valid: True for predictions to keep.
    """
    images, labels, boxes_xywh = _rows(image_ids, boxes, categories, valid)
    area = boxes_xywh[:, 2:].prod(axis=1)
    return DetectionRows(images, labels, _flat(scores, valid).astype(float), boxes_xywh, area)


def _flat(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    return np.asarray(values)[np.asarray(valid, bool)]


def _rows(
    image_ids: np.ndarray, boxes: np.ndarray, categories: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image ids, categories and boxes xywh of the valid entries."""
    images = np.repeat(np.asarray(image_ids, np.int64), np.asarray(valid, bool).sum(axis=1))
    corners = _flat(boxes, valid).astype(float)
    sides = corners[:, 2:] - corners[:, :2]
    labels = _flat(categories, valid).astype(np.int64)
    return images, labels, np.concatenate([corners[:, :2], sides], axis=-1)
