"""Columns of the objects in an annotation or results file: ids, boxes, keypoints and masks."""

import itertools
import json
import logging
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Shaped

from zoo.data.annotations import ObjectTable, xywh_to_xyxy
from zoo.data.formats.json_file import describe, refuse_rows
from zoo.ops.cocomasks import read_masks
from zoo.ops.ragged import lengths_to_offsets
from zoo.ops.rle import Masks

Refuse = Callable[[np.ndarray, str], None]  # positions of wrong records, and what is wrong

_MOST = 1e9  # no number of a box or joint is larger


def column(values: Any, count: int, dtype: type = np.int64) -> Shaped[np.ndarray, " n"]:
    """Converts an iterable of numbers to an array, without making a list of them."""
    return np.fromiter(values, dtype, count=count)


def values_of(
    records: Sequence[Any], field: str, dtype: type = np.int64
) -> Shaped[np.ndarray, " n"]:
    """One field of all records."""
    return column(map(operator.attrgetter(field), records), len(records), dtype)


def positions(
    path: str | Path, name: str, records: Sequence[Any], field: str, listed: Sequence[Any]
) -> Int[np.ndarray, " n"]:
    """Position in `listed` of the id in each record's `field`; -1 if there is no such id.

    Args:
        path: The file of the records.
        name: Name of their list in the file.
        records: The records.
        field: Their field with an id.
        listed: What has these ids.

    Raises:
        DataError: If an id is text but the same one in `listed` is a number, or the reverse.
    """
    position = {one.id: i for i, one in enumerate(listed)}
    ids = map(operator.attrgetter(field), records)
    found = column(map(position.get, ids, itertools.repeat(-1)), len(records))
    unknown = np.flatnonzero(found < 0)
    texts = {str(known) for known in position} if len(unknown) else ()
    other = [row for row in unknown.tolist() if str(getattr(records[row], field)) in texts]
    if other:
        is_text = isinstance(getattr(records[other[0]], field), str)
        kinds = ("text", "numbers") if is_text else ("a number", "text")
        what = f"{field} is {kinds[0]}, but the ids that are listed are {kinds[1]}"
        refuse_rows(path, name, records, np.array(other), what)
    return found


def known_rows(
    path: str | Path,
    kind: str,
    records: Sequence[Any],
    owners: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
) -> tuple[Int[np.ndarray, " n"], list[str]]:
    """Rows whose image and category are known, and warnings about the other rows.

    Args:
        path: The file.
        kind: Name of a record in the warnings.
        records: All records.
        owners: Position of each record's image, or -1 if it is unknown.
        labels: Position of each record's category, or -1 if it is unknown.
    """
    warnings = []
    for bad, what in ((owners < 0, "image"), ((labels < 0) & (owners >= 0), "category")):
        if bad.any():
            first = records[np.flatnonzero(bad)[0]]
            warnings.append(
                f"{path}: ignored {bad.sum()} {kind}s of unknown {what},"
                f" first {what}_id {getattr(first, f'{what}_id')!r}"
            )
    return np.flatnonzero((owners >= 0) & (labels >= 0)), warnings


def _rectangle(
    rows: Sequence[Sequence[float]], width: int, name: str, refuse: Refuse
) -> Float64[np.ndarray, "n width"]:
    """Converts lists of `width` numbers to an array; refuses other lengths, and NaN or infinity."""
    lengths = column(map(len, rows), len(rows))
    refuse(np.flatnonzero(lengths != width), f"{name}: not {width} numbers")
    flat = np.fromiter(itertools.chain.from_iterable(rows), float, count=len(rows) * width)
    table = flat.reshape(-1, width)
    refuse(np.flatnonzero(~np.isfinite(table).all(axis=1)), f"{name}: numbers that are not finite")
    refuse(np.flatnonzero((np.abs(table) > _MOST).any(axis=1)), f"{name}: numbers beyond {_MOST:g}")
    return table


def boxes_of(rows: Sequence[Sequence[float]], refuse: Refuse) -> Float64[np.ndarray, "n 4"]:
    """Converts boxes xywh to an array."""
    boxes = _rectangle(rows, 4, "bbox", refuse)
    refuse(np.flatnonzero((boxes[:, 2:] < 0).any(axis=1)), "bbox of negative width or height")
    return boxes


def keypoints_of(
    rows: Sequence[Sequence[float]], refuse: Refuse, joints: int = 0
) -> Float64[np.ndarray, "n j 3"]:
    """Converts lists of x, y, visibility to an array.

    Each must have `joints` joints; if that is 0, the same number as the first list.
    """
    width = 3 * joints or (len(rows[0]) if rows else 3)
    table = _rectangle(rows, width, "keypoints", refuse)
    refuse(np.arange(min(width % 3, 1)), "keypoints: not triples of x, y and visibility")
    return table.reshape(len(rows), width // 3, 3)


class Objects:
    """The annotations of known images and categories, in the order of their images."""

    def __init__(
        self,
        path: str | Path,
        annotations: Sequence[Any],
        rows: Int[np.ndarray, " n"],
        owners: Int[np.ndarray, " n"],
        labels: Int[np.ndarray, " n"],
        rules: str,
        masks_only: bool = False,
    ) -> None:
        if (np.diff(owners) < 0).any():
            order = np.argsort(owners, kind="stable")
            rows, owners, labels = rows[order], owners[order], labels[order]
        in_order = len(rows) == len(annotations) and (np.diff(rows) == 1).all()
        self.path, self.annotations, self.rules = path, annotations, rules
        self.rows, self.owners, self.labels = rows, owners, labels
        self.masks_only = masks_only
        self.records = annotations if in_order else [annotations[row] for row in rows.tolist()]

    def refuse(self, bad: Int[np.ndarray, " r"], what: str) -> None:
        """Raises an error for some rows."""
        rows = np.sort(self.rows[bad])
        refuse_rows(self.path, "annotations", self.annotations, rows, what)

    def table(
        self, images: Sequence[Any], categories: Sequence[Any], keypoints: bool
    ) -> ObjectTable:
        """The objects as a table; their labels are positions in `categories`."""
        sizes = np.array([(i.height, i.width) for i in images], np.int64).reshape(-1, 2)
        absent = (0.0,) * 4 if self.masks_only else ()
        boxes = boxes_of([record.bbox or absent for record in self.records], self.refuse)
        crowd = values_of(self.records, "iscrowd") != 0
        difficult = np.zeros(len(crowd), bool)
        if self.rules == "lvis":
            difficult, crowd = values_of(self.records, "ignore") != 0, difficult
        if self.rules == "training":
            self.warn_of_outside(boxes, sizes, ~crowd)
        return ObjectTable(
            [image.id for image in images],
            sizes,
            lengths_to_offsets(np.bincount(self.owners, minlength=len(images))),
            boxes,
            self.labels.astype(np.int32),
            self.areas(boxes),
            crowd,
            difficult,
            self.keypoints(categories) if keypoints else None,
        )

    def areas(self, boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
        """The areas as the file gives them; for training, those of the boxes if absent."""
        if self.rules != "training":
            areas = values_of(self.records, "area", float)
            self.refuse(np.flatnonzero(~np.isfinite(areas)), "area is not finite")
            return areas
        given = zip(self.records, (boxes[:, 2] * boxes[:, 3]).tolist(), strict=True)
        areas = np.array([area if one.area is None else one.area for one, area in given], float)
        bad = ~(np.isfinite(areas) & (areas >= 0))
        self.refuse(np.flatnonzero(bad), "area is negative or not finite")
        return areas

    def keypoints(self, categories: Sequence[Any]) -> Float[np.ndarray, "n j 3"]:
        """The joints; all objects have the same number of them."""
        lists = [record.keypoints for record in self.records]
        if self.rules != "training":
            return keypoints_of(lists, self.refuse)
        named = max((len(category.keypoints) for category in categories), default=0)
        keypoints = keypoints_of(lists, self.refuse, named)
        wrong = ~np.isin(keypoints[..., 2], (0, 1, 2)).all(axis=1)
        self.refuse(np.flatnonzero(wrong), "keypoints: a visibility is not 0, 1 or 2")
        return keypoints

    def num_keypoints(self, table: ObjectTable) -> Int[np.ndarray, " n"]:
        """The number of labelled joints: see `CocoFile`."""
        assert table.keypoints is not None
        counted = (table.keypoints[..., 2] > 0).sum(axis=1).tolist()
        given = [record.num_keypoints for record in self.records]
        pairs = zip(given, counted, strict=True)
        if self.rules != "training":  # as pycocotools, for which only 0 is without joints
            return np.array([1 if said is None else said for said, _ in pairs], np.int64)
        return np.array([count if said is None else said for said, count in pairs], np.int64)

    def segmentations(self) -> list[bytes]:
        """Each mask as JSON."""
        shapes = [record.segmentation for record in self.records]
        if all(isinstance(shape, msgspec.Raw) for shape in shapes):
            return list(map(bytes, shapes))
        texts = []
        for row, shape in enumerate(shapes):
            try:
                texts.append(json.dumps(shape, allow_nan=False).encode())
            except ValueError:
                self.refuse(np.array([row]), "segmentation: NaN or Infinity in it")
        return texts

    def masks(self, sizes: Int[np.ndarray, "n 2"]) -> Masks:
        """All masks, decoded; `sizes` are those of the images."""
        shapes = [record.segmentation for record in self.records]
        return read_masks(shapes, sizes[self.owners], self.refuse)

    def warn_of_outside(
        self,
        boxes: Float[np.ndarray, "n 4"],
        sizes: Int[np.ndarray, "n 2"],
        targets: Bool[np.ndarray, " n"],
    ) -> None:
        """Warns of objects that cannot be trained on: boxes without area inside the image."""
        corners = xywh_to_xyxy(boxes).clip(0, np.tile(sizes[self.owners][:, ::-1], 2))
        outside = ~(corners[:, 2:] > corners[:, :2]).all(axis=1) & targets
        if outside.any():
            logging.getLogger(__name__).warning(
                "%s: %d boxes have no area inside their image and are no training targets, first"
                " %s",
                self.path,
                outside.sum(),
                describe("annotations", self.annotations, int(self.rows[outside].min())),
            )
