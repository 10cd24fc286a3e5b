"""Images with annotated objects, read from COCO's json or PASCAL VOC's xml.

A category has an id, given by the file, and a label: its position among the categories of the file,
sorted by id, or the position of its name among the classes of a model. `AnnotatedImages` converts
ids to labels and labels to ids.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from zoo.data.annotations import Annotations, Joints, ObjectTable, labels_of
from zoo.data.decode import image_size
from zoo.data.errors import DataError
from zoo.data.formats.coco import decode_masks, read_annotations
from zoo.data.formats.folders import IMAGE_SUFFIXES, find_file, read_bytes, slice_of
from zoo.data.formats.voc import VocImage, annotation_files, pixel_boxes, read_xml
from zoo.ops.ragged import lengths_to_offsets, spread
from zoo.ops.rle import Masks


@dataclasses.dataclass(frozen=True)
class AnnotatedImages:
    """The images of annotation files, with or without objects; COCO's are sorted by id.

    Attributes:
        path: The annotation file of COCO, or the folder of VOC.
        folder: Folder of the images.
        file_names: Path of each image in `folder`.
        table: The objects.
        class_names: Name of each class, by label.
        category_ids: The file's category id of each label, a number or text; None where the file
            has no such class.
        segmentations: Mask of each object, as the JSON of the file; None if opened without masks.
        joints: The joints of the keypoints; None if opened without keypoints.
    """

    path: str
    folder: str
    file_names: Sequence[str]
    table: ObjectTable
    class_names: tuple[str, ...]
    category_ids: tuple[int | str | None, ...]
    segmentations: Sequence[bytes] | None = None
    joints: Joints | None = None

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """{"image": encoded bytes, "name": path, "index", "annotations"}."""
        path = find_file(self.folder, self.file_names[index])
        try:
            data = read_bytes(path)
        except DataError as error:
            raise DataError(
                f"{error}; {self.path} has it as image {self.table.image_ids[index]}"
            ) from error
        annotations = self.annotations(index)
        return {"image": data, "name": path, "index": index, "annotations": annotations}

    @functools.cached_property
    def labels(self) -> dict[int | str, int]:
        """The label of each of the file's category ids."""
        ids = enumerate(self.category_ids)
        return {category: label for label, category in ids if category is not None}

    @property
    def sizes(self) -> Int[np.ndarray, "i 2"]:
        """Height and width of each image, as the file says."""
        return self.table.sizes

    @property
    def target_counts(self) -> Int[np.ndarray, " i"]:
        """Largest possible number of training targets in each image."""
        return self.table.target_counts()

    def annotations(self, index: int) -> Annotations:
        """All objects of an image, crowds included; the image is not read."""
        return self.table.annotations(index, self._masks(index))

    def _masks(self, index: int) -> Masks | None:
        if self.segmentations is None:
            return None
        where = f"{self.path}: image {self.table.image_ids[index]}"
        texts = self.segmentations[self.table.rows(index)]
        return decode_masks(texts, self.table.sizes[index], where)


def coco_paths(
    folder: str, split: str, annotations: str | None, images: str | None, keypoints: bool = False
) -> tuple[str, str]:
    """Paths of a split's annotation file and image folder; COCO's usual paths if not given."""
    split = split.partition("[")[0]
    folder = os.path.expanduser(folder)
    kind = "person_keypoints" if keypoints else "instances"
    annotations = annotations or f"annotations/{kind}_{split}.json"
    return os.path.join(folder, annotations), os.path.join(folder, images or split)


def open_coco(
    path: str,
    folder: str,
    split: str = "",
    class_names: tuple[str, ...] | None = None,
    *,
    masks: bool = False,
    keypoints: bool = False,
) -> AnnotatedImages:
    """Opens an annotation file.

    Args:
        path: COCO's ``instances_*.json``, or another file in that format.
        folder: Folder of the images.
        split: If this ends with a slice, as ``train[:90%]`` does, only that part of the images is
            opened; the name before the slice has no effect.
        class_names: The classes; the label of a category is the position of its name. None takes
            the file's own categories, sorted by id.
        masks: Whether to keep the segmentations; then all annotations must have one.
        keypoints: Whether to keep the keypoints; then all annotations must have them.

    Raises:
        DataError: If the file or the folder does not exist, or the contents of the file are
            invalid.
    """
    file = read_annotations(path, masks="encoded" if masks else "none", keypoints=keypoints)
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder, for the images of {path}")
    names = tuple(file.category_names.values())
    class_names = class_names or names
    labels = labels_of(names, class_names, path)
    category_ids: list[int | str | None] = [None] * len(class_names)
    for label, category in zip(labels.tolist(), file.category_names, strict=True):
        category_ids[label] = category
    file_names = [image.file_name for image in file.images]
    table = dataclasses.replace(
        file.table, labels=labels[file.table.labels], num_keypoints=file.num_keypoints
    )
    source = AnnotatedImages(
        path,
        folder,
        file_names,
        table,
        class_names,
        tuple(category_ids),
        file.segmentations,
        file.joints,
    )
    if "[" not in split:
        return source
    return take_images(source, np.array(slice_of(split, path, file_names), np.int64))


def open_voc(
    path: str, split: str, class_names: tuple[str, ...] | None, upright: bool
) -> AnnotatedImages:
    """Opens a split of a folder; for the layouts see `zoo.data.formats.voc.annotation_files`.

    Args:
        path: The folder.
        split: The name of a split, or a slice of it such as ``train[:90%]``.
        class_names: The classes; the label of an object is the position of its name. None takes
            the names in the whole split, sorted.
        upright: Whether EXIF's orientation is applied before an image is measured, which happens
            if its xml has no size.

    Raises:
        DataError: If the folder, a file or an image does not exist, or has invalid contents.
    """
    folder = Path(path).expanduser()
    files = annotation_files(folder, split.partition("[")[0])
    images = [read_xml(xml) for xml, _ in files]
    paths = [_image_path(image, place) for image, (_, place) in zip(images, files, strict=True)]
    known = tuple(sorted({one.name for image in images for one in image.objects}))
    if not known and class_names is None:
        raise DataError(f"{folder}: no object in any of the {len(files)} .xml files")
    labels = dict(zip(known, labels_of(known, class_names or known, str(folder)), strict=True))
    sizes = [_size(image, where, upright) for image, where in zip(images, paths, strict=True)]
    class_names = class_names or known
    source = AnnotatedImages(
        str(folder),
        "",
        paths,
        _voc_table(images, sizes, labels),
        class_names,
        tuple(range(len(class_names))),
    )
    if "[" not in split:
        return source
    names = [image.path.stem for image in images]
    return take_images(source, np.array(slice_of(split, folder, names), np.int64))


def _voc_table(
    images: Sequence[VocImage], sizes: Sequence[tuple[int, int]], labels: Mapping[str, int]
) -> ObjectTable:
    objects = [one for image in images for one in image.objects]
    boxes = np.concatenate([np.zeros((0, 4)), *map(pixel_boxes, images)])
    return ObjectTable(
        [image.path.stem for image in images],
        np.array(sizes, np.int64).reshape(-1, 2),
        lengths_to_offsets(np.array([len(image.objects) for image in images], np.int64)),
        boxes,
        np.array([labels[one.name] for one in objects], np.int32),
        boxes[:, 2:].prod(axis=1),
        np.zeros(len(boxes), bool),
        np.array([one.difficult for one in objects], bool),
    )


def _image_path(image: VocImage, folder: Path) -> str:
    """Path of the image that the xml names, or else of an image with the name of the xml."""
    stem = image.path.stem
    for name in (image.file_name, *(stem + suffix for suffix in IMAGE_SUFFIXES)):
        if name and os.path.isfile(path := find_file(folder, name)):
            return path
    missing = image.file_name or stem + ".jpg"
    raise DataError(f"{image.path}: its image {missing} is not in {folder}")


def _size(image: VocImage, path: str, upright: bool) -> tuple[int, int]:
    """Height and width; taken from the image if a tool has written none or 0 to the xml."""
    if min(image.size) > 0:
        return image.size
    return image_size(read_bytes(path), path, upright=upright)


def take_images(source: AnnotatedImages, images: Int[np.ndarray, " j"]) -> AnnotatedImages:
    """A source with only the given images."""
    offsets = source.table.offsets
    rows = spread(offsets[images], np.diff(offsets)[images]).tolist()
    texts = source.segmentations
    return dataclasses.replace(
        source,
        file_names=[source.file_names[image] for image in images.tolist()],
        table=source.table.take(images),
        segmentations=None if texts is None else [texts[row] for row in rows],
    )
