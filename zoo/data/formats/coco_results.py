"""Reads result files of COCO and LVIS as columns."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import numpy as np
from jaxtyping import Float, Int

from zoo.data.annotations import xywh_to_xyxy
from zoo.data.formats.coco import CocoFile, warn_of_stubs
from zoo.data.formats.coco_objects import (
    Refuse,
    boxes_of,
    keypoints_of,
    known_rows,
    positions,
    values_of,
)
from zoo.data.formats.coco_records import CategoryId, Segmentation
from zoo.data.formats.json_file import ImageId, decode_json, refuse_rows
from zoo.data.formats.results import Results
from zoo.ops.cocomasks import read_masks
from zoo.ops.rle import Masks

IouType = Literal["bbox", "segm", "keypoints"]

_KIND = "a COCO result file"


class _Result(msgspec.Struct, kw_only=True, gc=False):
    image_id: ImageId
    category_id: CategoryId
    score: float
    bbox: tuple[float, ...] = ()


class _FullResult(_Result, kw_only=True, gc=False):
    segmentation: Segmentation | None = None
    keypoints: list[float] = []


def read_results(path: str | Path, truth: CocoFile, iou_type: IouType) -> tuple[Results, list[str]]:
    """Reads a result file; also returns warnings about results that were ignored.

    As in pycocotools, the first record decides where areas come from: its ``bbox`` if it has one,
    else its ``segmentation``, else the extent of its ``keypoints``.

    Args:
        path: The file.
        truth: The annotation file that the results belong to.
        iou_type: What will be compared; the results must have it.

    Raises:
        DataError: If it is not such a file, has results for images that are not in `truth`, or has
            invalid boxes, masks, keypoints or scores.
    """
    kind = list[_Result] if iou_type == "bbox" else list[_FullResult]
    found: Sequence[Any] = decode_json(path, kind, _KIND)
    if iou_type == "bbox" and found and not found[0].bbox:
        found = decode_json(path, list[_FullResult], _KIND)
    owners = positions(path, "results", found, "image_id", truth.images)
    stray = np.flatnonzero(owners < 0)
    refuse_rows(path, "results", found, stray, "image_id is not in the annotations")
    labels = positions(path, "results", found, "category_id", truth.categories)
    rows, warnings = known_rows(path, "result", found, owners, labels)
    kept: Sequence[Any] = (
        found if len(rows) == len(found) else [found[row] for row in rows.tolist()]
    )

    def refuse(bad: Int[np.ndarray, " r"], what: str) -> None:
        refuse_rows(path, "results", found, rows[bad], what)

    scores = values_of(kept, "score", float)
    refuse(np.flatnonzero(~np.isfinite(scores)), "score is not finite")
    sizes = truth.table.sizes[owners[rows]]
    shapes = _Shapes(kept, found[:1], sizes, refuse).read(truth, iou_type)
    results = Results(owners[rows], truth.category_numbers[labels[rows]], scores, *shapes)
    if results.masks is not None:
        warnings += warn_of_stubs(
            path, [result.segmentation for result in cast(Sequence[_FullResult], kept)]
        )
    if iou_type == "segm" and results.masks is not None:
        warnings += _sizes_that_differ(path, results.masks, sizes, rows)
    return results, warnings


def read_proposals(path: str | Path) -> dict[ImageId, Float[np.ndarray, "n 4"]]:
    """Reads the boxes of a result file by image id, ``xyxy``; scores and categories are not used.

    Raises:
        DataError: If it is not such a file, or has invalid boxes.
    """
    found: Sequence[Any] = decode_json(path, list[_Result], _KIND)

    def refuse(bad: Int[np.ndarray, " r"], what: str) -> None:
        refuse_rows(path, "results", found, bad, what)

    boxes = xywh_to_xyxy(boxes_of([result.bbox for result in found], refuse))
    rows: dict[ImageId, list[int]] = {}
    for row, result in enumerate(found):
        rows.setdefault(result.image_id, []).append(row)
    return {image: boxes[numbers] for image, numbers in rows.items()}


def _sizes_that_differ(
    path: str | Path,
    masks: Masks,
    sizes: Int[np.ndarray, "n 2"],
    rows: Int[np.ndarray, " n"],
) -> list[str]:
    other = (sizes > 0).all(axis=1) & (masks.sizes != sizes).any(axis=1)
    if not other.any():
        return []
    first = np.flatnonzero(other)[0]
    return [
        f"{path}: {other.sum()} masks of another size than their image match nothing,"
        f" first results[{rows[first]}]: {masks.sizes[first].tolist()},"
        f" image {sizes[first].tolist()}"
    ]


@dataclasses.dataclass(frozen=True)
class _Shapes:
    """Reads boxes, areas, masks and keypoints of results.

    Attributes:
        kept: The results of known images and categories.
        first: A list with the first result of the file; empty if the file is empty.
        sizes: Height and width of the image of each result.
        refuse: Called with the invalid rows, and what is wrong with them.
    """

    kept: Sequence[Any]
    first: Sequence[Any]
    sizes: np.ndarray
    refuse: Refuse

    def read(
        self, truth: CocoFile, iou_type: IouType
    ) -> tuple[np.ndarray, np.ndarray, Masks | None, np.ndarray | None]:
        """Boxes, areas, masks and keypoints."""
        masks = keypoints = None
        by_box = not self.first or bool(self.first[0].bbox)
        by_mask = not by_box and self.first[0].segmentation is not None
        boxes = boxes_of([result.bbox for result in self.kept], self.refuse) if by_box else None
        if iou_type == "segm" or by_mask:
            masks = self.masks(by_box)
        if iou_type == "keypoints" or not (by_box or by_mask):
            keypoints = self.keypoints(truth)
        if by_mask and masks is not None:
            return masks.boxes_xywh(), masks.areas().astype(float), masks, keypoints
        if boxes is None:
            points = np.zeros((len(self.kept), 1, 2)) if keypoints is None else keypoints[..., :2]
            low, high = points.min(axis=1), points.max(axis=1)
            boxes = np.concatenate([low, high - low], axis=-1)
        return boxes, boxes[:, 2] * boxes[:, 3], masks, keypoints

    def masks(self, by_box: bool) -> Masks:
        shapes = [
            _box_polygon(result.bbox) if by_box and not result.segmentation else result.segmentation
            for result in self.kept
        ]
        return read_masks(shapes, self.sizes, self.refuse)

    def keypoints(self, truth: CocoFile) -> Float[np.ndarray, "n j 3"]:
        keypoints = keypoints_of([result.keypoints for result in self.kept], self.refuse)
        annotated = truth.table.keypoints
        if annotated is not None and len(self.kept) and len(annotated):
            joints = annotated.shape[1]
            different = keypoints.shape[1] != joints
            self.refuse(np.arange(int(different)), f"keypoints: not {joints} joints as annotated")
        return keypoints


def _box_polygon(box_xywh: tuple[float, ...]) -> list[list[float]]:
    x, y, width, height = box_xywh
    right, bottom = x + width, y + height
    return [[x, y, x, bottom, right, bottom, right, y]]
