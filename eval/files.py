"""Reads files of ground truth and of results in the form that the evaluators need."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from eval.records import DetectionRows, ObjectRows
from zoo.data.errors import DataError
from zoo.data.formats import coco, coco_results, voc
from zoo.data.formats.coco_results import IouType
from zoo.data.formats.folders import files_of_type


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """Annotated images. An image's id in `objects` is its position in `images`.

    Attributes:
        images: The images as read from the files; each has a `file_name`.
        categories: The categories, sorted by id.
        objects: The annotations whose image and category are known.
        warnings: Messages about annotations that were ignored.
        file: The contents of the file, if it is in COCO's format.
    """

    images: Sequence[Any]
    categories: Sequence[Any]
    objects: ObjectRows
    warnings: Sequence[str]
    file: coco.CocoFile | None = None

    @property
    def category_names(self) -> dict[int, str]:
        """Name of each category, by id."""
        return {category.id: category.name for category in self.categories}


def read_coco(
    path: str | Path, iou_type: IouType, rules: Literal["coco", "lvis"] = "coco"
) -> GroundTruth:
    """Reads an annotation file in the format of COCO or LVIS.

    Args:
        path: The file.
        iou_type: Decides which fields the annotations must have.
        rules: Whose rules apply: see `zoo.data.formats.coco.read_annotations`.

    Raises:
        DataError: If it is not such a file, has an id twice, or has invalid boxes or masks.
    """
    file = coco.read_annotations(
        path,
        rules,
        masks="decoded" if iou_type == "segm" else "none",
        keypoints=iou_type == "keypoints",
    )
    ignored = file.table.crowd | file.table.difficult
    if file.num_keypoints is not None:
        ignored = ignored | (file.num_keypoints == 0)
    table = file.table
    objects = ObjectRows(
        np.repeat(np.arange(len(table)), np.diff(table.offsets)),
        file.category_numbers[table.labels],
        table.boxes_xywh,
        table.areas,
        table.crowd,
        ignored,
        file.masks,
        table.keypoints,
    )
    numbered = zip(file.categories, file.category_numbers.tolist(), strict=True)
    categories = [msgspec.structs.replace(category, id=number) for category, number in numbered]
    warnings = [*file.warnings, *_nothing(path, objects, "no object is annotated")]
    return GroundTruth(file.images, categories, objects, warnings, file)


def read_coco_results(
    path: str | Path, truth: GroundTruth, iou_type: IouType
) -> tuple[DetectionRows, list[str]]:
    """Reads a result file for the annotations of `read_coco`; also returns warnings.

    Raises:
        DataError: See `zoo.data.formats.coco_results.read_results`.
    """
    assert truth.file is not None, "results in COCO's format need annotations in COCO's format"
    results, warnings = coco_results.read_results(path, truth.file, iou_type)
    detections = DetectionRows(*results)
    return detections, warnings + _nothing(path, detections, "no object is found")


def read_voc(folder: Path) -> GroundTruth:
    """Reads a folder of PASCAL VOC's xml files; category ids are positions in the sorted names.

    Raises:
        DataError: If there are no files, or one is damaged; the message names it.
    """
    paths = files_of_type(folder, ".xml")
    if not paths:
        raise DataError(f"{folder}: no .xml files")
    images = [voc.read_xml(path) for path in paths]
    things = [thing for image in images for thing in image.objects]
    names, labels = np.unique(np.array([thing.name for thing in things], str), return_inverse=True)
    boxes = np.concatenate([voc.devkit_boxes(image) for image in images])
    objects = ObjectRows(
        np.repeat(np.arange(len(images)), [len(image.objects) for image in images]),
        labels,
        boxes,
        (boxes[:, 2:] + 1).prod(axis=1),
        np.zeros(len(things), bool),
        np.array([thing.difficult for thing in things], bool),
    )
    categories = [coco.Category(i, name) for i, name in enumerate(names.tolist())]
    warnings = _nothing(folder, objects, "no object is annotated")
    return GroundTruth(images, categories, objects, warnings)


def read_voc_results(folder: Path, truth: GroundTruth) -> tuple[DetectionRows, list[str]]:
    """Reads a folder of the devkit's result files; also returns warnings.

    Raises:
        DataError: See `zoo.data.formats.voc.read_results`.
    """
    ids = {category.name: category.id for category in truth.categories}
    images = [image.path.stem for image in truth.images]
    results, warnings = voc.read_results(folder, images, ids)
    detections = DetectionRows(*results)
    return detections, warnings + _nothing(folder, detections, "no object is found")


def _nothing(path: str | Path, rows: ObjectRows | DetectionRows, what: str) -> list[str]:
    """A warning if there are no rows: the figures of such a file are -1 or 0."""
    return [] if len(rows) else [f"{path}: {what} in any image"]
