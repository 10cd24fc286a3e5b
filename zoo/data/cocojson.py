"""COCO's annotation files as columns.

Whatever cannot be right is a `DataError` of one line that names the file and the first records
concerned.
"""

import dataclasses
import functools
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from zoo.data.annotations import ObjectTable, xywh_to_xyxy
from zoo.data.errors import DataError
from zoo.ops.ragged import lengths_to_offsets

_SHOWN = 3  # offending records that a message lists


class _Image(msgspec.Struct, gc=False):
    id: int | str
    file_name: str
    height: int
    width: int


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


class RunLengths(msgspec.Struct, gc=False):
    """A mask as COCO writes it: `size` is height and width; `counts` plain or compressed."""

    size: tuple[int, int]
    counts: str | list[int]


class _Object(msgspec.Struct, kw_only=True, gc=False):
    id: int | str | None = None
    image_id: int | str
    category_id: int
    bbox: tuple[float, ...]
    area: float | None = None
    iscrowd: int | bool = 0


class _MaskedObject(_Object, kw_only=True, gc=False):
    segmentation: msgspec.Raw  # decoded when it is asked for: as objects they fill the memory


class _Categories(msgspec.Struct):
    categories: list[_Category]


class _File(_Categories):
    images: list[_Image]
    annotations: list[_Object]


class _MaskedFile(_Categories):
    images: list[_Image]
    annotations: list[_MaskedObject]


@dataclasses.dataclass(frozen=True)
class CocoFile:
    """An annotation file; images and categories are sorted by id.

    Attributes:
        file_names: Of the images.
        table: The objects; labels are positions in `categories`.
        categories: Name of each category id.
        segmentations: Of each row of the table, in JSON; None if read without.
    """

    file_names: list[str]
    table: ObjectTable
    categories: dict[int, str]
    segmentations: list[bytes] | None


def read_coco(path: str, masks: bool) -> CocoFile:
    """Reads an annotation file.

    Args:
        path: The file.
        masks: Keep the segmentations, which annotations must then have.

    Raises:
        DataError: If the file cannot be read, or something in it cannot be.
    """
    file = _decode(path, _MaskedFile if masks else _File)
    refuse = functools.partial(_refuse, path, "images", file.images)
    refuse(_repeated(file.images), "id given twice")
    categories = _categories(path, file)
    try:
        file.images.sort(key=lambda image: image.id)
    except TypeError:
        raise DataError(f"{path}: some image ids are numbers, some are text") from None
    sizes = np.array([(i.height, i.width) for i in file.images], np.int64).reshape(-1, 2)
    refuse(np.flatnonzero((sizes <= 0).any(axis=1)), "height or width is not positive")
    table, order = _table(path, file, sizes, categories)
    if masks and not isinstance(file, _MaskedFile):
        raise DataError(f"{path}: not a COCO annotation file: NaN or Infinity in it")
    return CocoFile(
        [image.file_name for image in file.images],
        table,
        categories,
        [bytes(file.annotations[row].segmentation) for row in order] if masks else None,
    )


def read_categories(path: str) -> dict[int, str]:
    """Name of each category id of an annotation file, sorted by id."""
    return _categories(path, _decode(path, _Categories))


def _table(
    path: str, file: Any, sizes: np.ndarray, categories: Mapping[int, str]
) -> tuple[ObjectTable, list[int]]:
    """The objects sorted by image, and the order that sorts them."""
    objects = file.annotations
    position = {image.id: i for i, image in enumerate(file.images)}
    owners = np.array([position.get(o.image_id, -1) for o in objects], np.int64)
    refuse = functools.partial(_refuse, path, "annotations", objects)
    refuse(np.flatnonzero(owners < 0), "image_id is none of the images")
    labels = {category: label for label, category in enumerate(categories)}
    label = np.array([labels.get(o.category_id, -1) for o in objects], np.int32)
    refuse(np.flatnonzero(label < 0), "category_id is none of the categories")
    lengths = np.array([len(o.bbox) for o in objects], np.int64)
    refuse(np.flatnonzero(lengths != 4), "bbox does not have 4 numbers")
    boxes = np.array([o.bbox for o in objects], np.float64).reshape(-1, 4)
    refuse(np.flatnonzero(~np.isfinite(boxes).all(axis=1)), "bbox with numbers that are not finite")
    refuse(np.flatnonzero((boxes[:, 2:] < 0).any(axis=1)), "bbox of negative width or height")
    given = [
        box[2] * box[3] if o.area is None else o.area
        for o, box in zip(objects, boxes.tolist(), strict=True)
    ]
    areas = np.array(given, np.float64)
    refuse(np.flatnonzero(~(np.isfinite(areas) & (areas >= 0))), "area is negative or not finite")
    crowd = np.array([bool(o.iscrowd) for o in objects], bool)
    _warn_of_outside(path, objects, boxes, sizes[owners], ~crowd)
    order = np.argsort(owners, kind="stable")
    offsets = lengths_to_offsets(np.bincount(owners, minlength=len(sizes)))
    table = ObjectTable(
        [image.id for image in file.images],
        sizes,
        offsets,
        boxes[order],
        label[order],
        areas[order],
        crowd[order],
        np.zeros(len(order), bool),
    )
    return table, order.tolist()


def _warn_of_outside(
    path: str, objects: list[_Object], boxes: np.ndarray, sizes: np.ndarray, targets: np.ndarray
) -> None:
    """Says which objects cannot be trained on: their boxes have no area inside the image."""
    corners = xywh_to_xyxy(boxes).clip(0, np.tile(sizes[:, ::-1], 2))
    rows = np.flatnonzero(~(corners[:, 2:] > corners[:, :2]).all(axis=1) & targets)
    if len(rows):
        logging.getLogger(__name__).warning(
            "%s: %d boxes have no area inside their image and are no training targets, first %s",
            path,
            len(rows),
            _describe("annotations", objects, int(rows[0])),
        )


def _categories(path: str, file: _Categories) -> dict[int, str]:
    categories = sorted(file.categories, key=lambda category: category.id)
    if not categories:
        raise DataError(f"{path}: has no categories")
    _refuse(path, "categories", categories, _repeated(categories), "id given twice")
    return {category.id: category.name for category in categories}


def _repeated(records: Sequence[Any]) -> np.ndarray:
    """Positions of records whose id an earlier one has."""
    seen: set[int | str] = set()
    rows = [i for i, record in enumerate(records) if record.id in seen or seen.add(record.id)]
    return np.array(rows, np.int64)


def _refuse(path: str, name: str, records: Sequence[Any], rows: np.ndarray, what: str) -> None:
    """Raises a `DataError` that lists the first of the offending `rows`, if there are any."""
    if len(rows):
        shown = "; ".join(_describe(name, records, row) for row in rows[:_SHOWN].tolist())
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        raise DataError(f"{path}: {what}: {shown}{more}")


def _describe(name: str, records: Sequence[Any], row: int) -> str:
    fields = ("id", "image_id", "category_id", "bbox", "name", "file_name")
    values = {field: getattr(records[row], field, None) for field in fields}
    return f"{name}[{row}] ({', '.join(f'{k} {v}' for k, v in values.items() if v is not None)})"


def _decode(path: str, kind: Any) -> Any:
    """A json file as objects of `kind`; other fields are passed over."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise DataError(f"{path}: not a COCO annotation file: {error}") from error
    except msgspec.DecodeError:
        pass  # Python's reader takes NaN and Infinity, so that the record can be named
    try:
        return msgspec.convert(json.loads(data), type=_File if kind is _MaskedFile else kind)
    except ValueError as error:
        raise DataError(f"{path}: not a COCO annotation file: {error}") from error
