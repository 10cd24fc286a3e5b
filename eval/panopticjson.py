"""COCO's panoptic annotation files."""

from pathlib import Path

import msgspec
import numpy as np

from eval.cocojson import FileError, Int64, decode, refuse_rows, repeated


class Category(msgspec.Struct):
    """An entry of ``categories``."""

    id: int
    name: str
    isthing: int


class SegmentInfo(msgspec.Struct):
    """An entry of ``segments_info``; predictions have neither `iscrowd` nor `area`."""

    id: int
    category_id: int
    iscrowd: int = 0
    area: Int64 | None = None


class Annotation(msgspec.Struct):
    """An image: its file of segment ids and what they are."""

    image_id: int | float | str
    file_name: str
    segments_info: list[SegmentInfo]


class PanopticFile(msgspec.Struct):
    """A panoptic annotation or result file; results need no categories."""

    annotations: list[Annotation]
    categories: list[Category] = []


def read(annotations: Path, predictions: Path) -> tuple[PanopticFile, PanopticFile]:
    """An annotation and a result file.

    Raises:
        FileError: If they are none, have an image or category twice, or no category, or if the
            results lack an image or are about one that is not annotated.
    """
    truth, found = decode(annotations, PanopticFile), decode(predictions, PanopticFile)
    if not truth.categories:
        raise FileError(f"{annotations}: no categories")
    twice = repeated([category.id for category in truth.categories])
    refuse_rows(annotations, "categories", truth.categories, twice, "id given twice")
    for path, file in ((annotations, truth), (predictions, found)):
        twice = repeated([annotation.image_id for annotation in file.annotations])
        refuse_rows(path, "annotations", file.annotations, twice, "image_id given twice")
    true_ids, found_ids = (
        {annotation.image_id for annotation in file.annotations} for file in (truth, found)
    )
    stray = [i for i, a in enumerate(found.annotations) if a.image_id not in true_ids]
    what = "image_id is not in the annotations"
    refuse_rows(predictions, "annotations", found.annotations, np.array(stray, int), what)
    for annotation in truth.annotations:
        if annotation.image_id not in found_ids:
            raise FileError(f"{predictions}: nothing for image {annotation.image_id}")
    return truth, found
