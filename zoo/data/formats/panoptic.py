"""Reads COCO's panoptic files: json with the segments of each image, and png of segment ids."""

from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import UInt32

from zoo.data.decode import decode_channels
from zoo.data.errors import DataError
from zoo.data.formats.folders import find_file, read_bytes
from zoo.data.formats.json_file import Flag, ImageId, Int64, decode_json, refuse_rows, repeated
from zoo.text_files import plain_name


class Category(msgspec.Struct):
    """An entry of ``categories``."""

    id: Int64
    name: str
    isthing: Flag


class SegmentInfo(msgspec.Struct):
    """An entry of ``segments_info``; predictions have neither `iscrowd` nor `area`."""

    id: Int64
    category_id: Int64
    iscrowd: Flag = 0
    area: Int64 | None = None


class Annotation(msgspec.Struct):
    """An annotated image: the name of its png of segment ids, and its segments."""

    image_id: ImageId
    file_name: str
    segments_info: list[SegmentInfo]


class PanopticFile(msgspec.Struct):
    """A panoptic annotation or result file; results need no categories."""

    annotations: list[Annotation]
    categories: list[Category] = []


def read_panoptic(path: Path, categories: bool = True) -> PanopticFile:
    """Reads an annotation file, or without `categories` a result file.

    Raises:
        DataError: If it is not such a file, has an image or category twice, or has no categories.
    """
    file = decode_json(path, PanopticFile, "a COCO panoptic file")
    if categories:
        if not file.categories:
            raise DataError(f"{path}: no categories")
        twice = repeated([category.id for category in file.categories])
        refuse_rows(path, "categories", file.categories, twice, "id given twice", ["id"])
        for category in file.categories:
            category.name = plain_name(category.name)
    twice = repeated([annotation.image_id for annotation in file.annotations])
    what = "image_id given twice"
    refuse_rows(path, "annotations", file.annotations, twice, what, ["image_id"])
    return file


def read_panoptic_pair(annotations: Path, predictions: Path) -> tuple[PanopticFile, PanopticFile]:
    """Reads an annotation and a result file.

    Raises:
        DataError: If one of them is not such a file, or the results lack an image or have one that
            is not annotated.
    """
    truth, found = read_panoptic(annotations), read_panoptic(predictions, categories=False)
    true_ids, found_ids = (
        {annotation.image_id for annotation in file.annotations} for file in (truth, found)
    )
    stray = [i for i, a in enumerate(found.annotations) if a.image_id not in true_ids]
    what = "image_id is not in the annotations"
    rows = np.array(stray, np.int64)
    refuse_rows(predictions, "annotations", found.annotations, rows, what, ["image_id"])
    for annotation in truth.annotations:
        if annotation.image_id not in found_ids:
            raise DataError(f"{predictions}: nothing for image {annotation.image_id!r}")
    return truth, found


def read_segment_ids(folder: Path, name: str) -> UInt32[np.ndarray, "h w"]:
    """Segment ids of a panoptic png in a folder: red + 256 green + 65,536 blue.

    Raises:
        DataError: If the file is not an image of three channels of 8 bits.
    """
    path = find_file(folder, name)
    ids = decode_channels(read_bytes(path), str(path))
    red, green, blue = ids.astype(np.uint32).transpose(2, 0, 1)
    return red + 256 * green + 65536 * blue
