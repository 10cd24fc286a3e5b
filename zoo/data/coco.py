"""COCO's annotation files with their images, read without pycocotools or TensorFlow.

A category's id is whatever the file says; its label is its position, by id, among the file's
categories, or by name among the classes of a model. `CocoSource` has the map both ways.
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from zoo.data.annotations import Annotations, ObjectTable, labels_of
from zoo.data.cocojson import RunLengths, read_coco
from zoo.data.errors import DataError
from zoo.data.sources import slice_of
from zoo.ops.cocomasks import read_masks
from zoo.ops.ragged import spread
from zoo.ops.rle import Masks

_SEGMENTATION = msgspec.json.Decoder(list[list[float]] | RunLengths)


@dataclasses.dataclass(frozen=True)
class CocoSource:
    """The images of annotation files, COCO's sorted by id, those without objects too.

    Attributes:
        path: The annotation file, or the folder of VOC's.
        folder: Where its images are.
        file_names: Of the images, in `folder`.
        table: The objects.
        class_names: Name of each class, by label.
        category_ids: The file's category id of each label; None where the file has no such class.
        segmentations: Of each object as the file has it, in JSON; None if opened without.
    """

    path: str
    folder: str
    file_names: Sequence[str]
    table: ObjectTable
    class_names: tuple[str, ...]
    category_ids: tuple[int | None, ...]
    segmentations: Sequence[bytes] | None = None

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """{"image": encoded bytes, "name": path, "index", "annotations"}."""
        path = os.path.join(self.folder, self.file_names[index])
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read: {error.strerror}; {self.path} has it as image"
                f" {self.table.image_ids[index]}"
            ) from error
        annotations = self.annotations(index)
        return {"image": data, "name": path, "index": index, "annotations": annotations}

    @functools.cached_property
    def labels(self) -> dict[int, int]:
        """The label of each of the file's category ids."""
        ids = enumerate(self.category_ids)
        return {category: label for label, category in ids if category is not None}

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of each image, as the file says."""
        return self.table.sizes

    @property
    def target_counts(self) -> np.ndarray:
        """Objects of each image that are training targets."""
        return self.table.target_counts()

    def annotations(self, index: int) -> Annotations:
        """All objects of an image, crowds included; the image is not read."""
        return self.table.annotations(index, self._masks(index))

    def _masks(self, index: int) -> Masks | None:
        if self.segmentations is None:
            return None
        rows = self.table.rows(index)
        where = f"{self.path}: image {self.table.image_ids[index]}"
        try:
            decoded = [_SEGMENTATION.decode(text) for text in self.segmentations[rows]]
        except msgspec.MsgspecError as error:
            raise DataError(f"{where}: segmentation: {error}") from error

        def refuse(bad: np.ndarray, what: str) -> None:
            if len(bad):
                raise DataError(f"{where}: the segmentation of its object {bad[0]}: {what}")

        size = self.table.sizes[index]
        masks = read_masks(decoded, np.tile(size, (len(decoded), 1)), refuse)
        other = np.flatnonzero((masks.sizes != size).any(axis=1))
        refuse(other, f"is of another size than the image, {size[0]} x {size[1]}")
        return masks


def coco_paths(
    folder: str, split: str, annotations: str | None, images: str | None
) -> tuple[str, str]:
    """Annotation file and folder of images of a split, as COCO's downloads lie unless given."""
    split = split.partition("[")[0]
    folder = os.path.expanduser(folder)
    annotations = annotations or f"annotations/instances_{split}.json"
    return os.path.join(folder, annotations), os.path.join(folder, images or split)


def open_coco(
    path: str,
    folder: str,
    split: str = "",
    class_names: tuple[str, ...] | None = None,
    masks: bool = False,
) -> CocoSource:
    """Opens an annotation file.

    Args:
        path: The file, COCO's ``instances_*.json`` or one's own in that format.
        folder: Where the images are.
        split: A slice in brackets, after any name, has that part of the images.
        class_names: What labels are positions in, by name; None is the file's own categories,
            sorted by id.
        masks: Keep the segmentations, which annotations must then have.

    Raises:
        DataError: If the file or the folder is not there, or something in the file cannot be.
    """
    file = read_coco(path, masks)
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder, for the images of {path}")
    names = tuple(file.categories.values())
    class_names = class_names or names
    labels = labels_of(names, class_names, path)
    category_ids: list[int | None] = [None] * len(class_names)
    for label, category in zip(labels.tolist(), file.categories, strict=True):
        category_ids[label] = category
    table = dataclasses.replace(file.table, labels=labels[file.table.labels])
    source = CocoSource(
        path, folder, file.file_names, table, class_names, tuple(category_ids), file.segmentations
    )
    if "[" not in split:
        return source
    return take_images(source, np.array(slice_of(split, path, file.file_names), np.int64))


def take_images(source: CocoSource, images: np.ndarray) -> CocoSource:
    """Some of the images."""
    offsets = source.table.offsets
    rows = spread(offsets[images], np.diff(offsets)[images]).tolist()
    texts = source.segmentations
    return dataclasses.replace(
        source,
        file_names=[source.file_names[image] for image in images.tolist()],
        table=source.table.take(images),
        segmentations=None if texts is None else [texts[row] for row in rows],
    )
