"""Reads annotation files of COCO and LVIS as columns: boxes, masks, keypoints.

Training and evaluation read the same files by different rules: see `read_annotations`. Invalid
contents are a `DataError` of one line, which names the file and the first invalid records.
"""

import dataclasses
import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Int

from zoo.data.annotations import Joints, ObjectTable
from zoo.data.errors import DataError
from zoo.data.formats.coco_objects import Objects, known_rows, positions
from zoo.data.formats.coco_records import (
    SEGMENTATION,
    Category,
    CategoryId,
    MaskForm,
    PoseCategory,
    Rules,
    file_type,
)
from zoo.data.formats.json_file import decode_json, refuse_rows, repeated
from zoo.ops.cocomasks import read_masks, without_stubs
from zoo.ops.rle import Masks
from zoo.text_files import plain_name

_KIND = "a COCO annotation file"


@dataclasses.dataclass(frozen=True)
class CocoFile:
    """An annotation file.

    Attributes:
        images: Sorted by id.
        categories: Sorted by id.
        table: The objects, sorted by image; labels are positions in `categories`, and objects that
            LVIS marks ``ignore`` are difficult.
        segmentations: Mask of each row of the table, as JSON, if masks are read as ``encoded``.
        masks: Mask of each row of the table, if masks are read as ``decoded``.
        num_keypoints: Number of labelled joints of each row, as the file says, or counted if it
            does not say; None if keypoints are not read.
        joints: The joints of training data; None if keypoints are not read.
        warnings: Messages about annotations that were ignored.
    """

    images: Sequence[Any]
    categories: Sequence[Any]
    table: ObjectTable
    segmentations: Sequence[bytes] | None = None
    masks: Masks | None = None
    num_keypoints: Int[np.ndarray, " t"] | None = None
    joints: Joints | None = None
    warnings: Sequence[str] = ()

    @property
    def category_names(self) -> dict[int | str, str]:
        """Name of each category, by id."""
        return {category.id: category.name for category in self.categories}

    @property
    def category_numbers(self) -> Int[np.ndarray, " k"]:
        """The id of each category; if ids are text that is no number, 1, 2, ... instead."""
        ids = [category.id for category in self.categories]
        if all(isinstance(one, int) or _is_number(one) for one in ids):
            return np.array(list(map(int, ids)), np.int64)
        return np.arange(1, len(ids) + 1)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and str(int(text[:18])) == text


def read_annotations(
    path: str | Path,
    rules: Rules = "training",
    *,
    masks: MaskForm = "none",
    keypoints: bool = False,
) -> CocoFile:
    """Reads an annotation file.

    Args:
        path: The file.
        rules: ``training`` raises an error for annotations of images or categories that are not in
            the file, for images without name or size, and for negative areas; annotations need no
            id and no area. ``coco`` has pycocotools' rules: annotations of unknown images or
            categories are ignored; the others need an area, and a number as id. ``lvis`` has the
            rules of the package lvis: as ``coco``, but there are no crowds, and annotations that
            are marked ``ignore`` count as difficult.
        masks: Whether to read masks; then all annotations must have one. ``encoded`` keeps them as
            the JSON of the file, for `decode_masks` to decode those of one image: all of them as
            objects would need too much memory. ``decoded`` decodes all of them.
        keypoints: Whether to read keypoints; then all annotations must have them.

    Raises:
        DataError: If the file cannot be read, or has invalid contents.
    """
    kind, plain = (file_type(rules, masks, keypoints, raw) for raw in (msgspec.Raw, Any))
    file: Any = decode_json(path, kind, _KIND, plain)
    images = _images(path, file.images, rules)
    used = {annotation.category_id for annotation in file.annotations}
    categories = _categories(path, file.categories, used, rules)
    if rules != "training":
        twice = repeated([annotation.id for annotation in file.annotations])
        refuse_rows(path, "annotations", file.annotations, twice, "id given twice")
    owners = positions(path, "annotations", file.annotations, "image_id", images)
    labels = positions(path, "annotations", file.annotations, "category_id", categories)
    if rules == "training":
        for column, what in ((owners, "image_id is none of the images"),
                             (labels, "category_id is none of the categories")):  # fmt: skip
            refuse_rows(path, "annotations", file.annotations, np.flatnonzero(column < 0), what)
    rows, warnings = known_rows(path, "annotation", file.annotations, owners, labels)
    only = masks == "decoded"  # then boxes are not compared, and may be absent
    objects = Objects(path, file.annotations, rows, owners[rows], labels[rows], rules, only)
    table = objects.table(images, categories, keypoints)
    texts = objects.segmentations() if masks == "encoded" else None
    shapes = map(_decode, texts or ())
    if masks == "decoded":
        shapes = (record.segmentation for record in objects.records)
    warnings += warn_of_stubs(path, shapes)
    if rules == "training":
        for warning in warnings:
            logging.getLogger(__name__).warning(warning)
    return CocoFile(
        images,
        categories,
        table,
        texts,
        objects.masks(table.sizes) if masks == "decoded" else None,
        objects.num_keypoints(table) if keypoints else None,
        _joints(path, categories, table) if keypoints and rules == "training" else None,
        warnings,
    )


def read_categories(path: str | Path) -> dict[int | str, str]:
    """Name of each category id of an annotation file, sorted by id, as training takes them.

    Raises:
        DataError: If the file cannot be read, has no categories, or has an id twice.
    """
    annotation = msgspec.defstruct("Annotation", [("category_id", CategoryId)], gc=False)
    lists = [("categories", list[Category]), ("annotations", list[annotation], [])]
    file: Any = decode_json(path, msgspec.defstruct("File", lists), _KIND)
    used = {annotation.category_id for annotation in file.annotations}
    return {category.id: category.name for category in _categories(path, file.categories, used)}


def _decode(text: bytes) -> Any:
    """A mask that may have several polygons; None for others, and for damaged ones."""
    try:
        return SEGMENTATION.decode(text) if text.count(b"[") > 2 else None
    except (ValueError, RecursionError):
        return None  # an error when the masks of its image are decoded


def warn_of_stubs(path: str | Path, segmentations: Iterable[Any]) -> list[str]:
    """A warning if polygons of fewer than 3 points are beside good ones, which are kept."""
    lists = (shape for shape in segmentations if isinstance(shape, list))
    if stubs := sum(len(shape) - len(without_stubs(shape)) for shape in lists):
        return [f"{path}: ignored {stubs} polygons of fewer than 3 points, beside good ones"]
    return []


def decode_masks(segmentations: Sequence[bytes], size: Int[np.ndarray, " 2"], where: str) -> Masks:
    """Decodes the masks of one image, from its part of `CocoFile.segmentations`.

    Args:
        segmentations: The masks as JSON.
        size: Height and width of the image.
        where: Name of the image in errors.

    Raises:
        DataError: If one of them is damaged, or does not have the size of the image.
    """
    try:
        decoded = [SEGMENTATION.decode(text) for text in segmentations]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: segmentation: {error}") from error

    def refuse(bad: Int[np.ndarray, " r"], what: str) -> None:
        if len(bad):
            raise DataError(f"{where}: the segmentation of its object {bad[0]}: {what}")

    masks = read_masks(decoded, np.tile(size, (len(decoded), 1)), refuse)
    other = np.flatnonzero((masks.sizes != size).any(axis=1))
    refuse(other, f"is of another size than the image, {size[0]} x {size[1]}")
    return masks


def _images(path: str | Path, images: list[Any], rules: Rules) -> list[Any]:
    """The images sorted by id."""
    twice = repeated([image.id for image in images])
    refuse_rows(path, "images", images, twice, "id given twice")
    if rules == "training":
        flat = [i for i, image in enumerate(images) if image.height <= 0 or image.width <= 0]
        what = "height or width is not positive"
        refuse_rows(path, "images", images, np.array(flat, np.int64), what)
    try:
        return sorted(images, key=lambda image: image.id)
    except TypeError:
        raise DataError(f"{path}: some image ids are numbers, some are text") from None


def _categories(
    path: str | Path,
    categories: list[Any],
    used: Collection[int | str],
    rules: Rules = "training",
) -> list[Any]:
    """The categories sorted by id; `used` are the ids that annotations have.

    For training, a category that no annotation has is left out if another one has its name:
    Roboflow writes such a root of the other categories.
    """
    if rules == "training" and not categories:
        raise DataError(f"{path}: has no categories")
    twice = repeated([category.id for category in categories])
    refuse_rows(path, "categories", categories, twice, "id given twice", ["id", "name"])
    for category in categories:
        category.name = plain_name(category.name)
    try:
        categories = sorted(categories, key=lambda category: category.id)
    except TypeError:
        raise DataError(f"{path}: some category ids are numbers, some are text") from None
    if rules != "training":
        return categories
    kept = {category.name: category for category in categories}  # of one name, the last
    kept |= {category.name: category for category in categories if category.id in used}
    return [c for c in categories if c.id in used or c is kept[c.name]]


def _joints(path: str | Path, categories: Sequence[PoseCategory], table: ObjectTable) -> Joints:
    """The joints, the same in all categories that have some; numbered if they have no names."""
    named = [category for category in categories if category.keypoints]
    for category in named:
        if category.keypoints != named[0].keypoints:
            raise DataError(
                f"{path}: categories {named[0].name!r} and {category.name!r} have different joints"
            )
    if not named:
        count = 0 if table.keypoints is None else table.keypoints.shape[1]
        return Joints(tuple(map(str, range(count))), named=False)
    names = tuple(named[0].keypoints)
    bones = tuple((first - 1, second - 1) for first, second in named[0].skeleton)
    if any(not 0 <= end < len(names) for bone in bones for end in bone):
        raise DataError(f"{path}: category {named[0].name!r}: a bone of its skeleton has no joint")
    if len(set(names)) < len(names):
        raise DataError(f"{path}: category {named[0].name!r}: several joints have one name")
    return Joints(names, bones)
