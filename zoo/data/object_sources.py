"""Sources of images with annotated objects: digit scenes, and TFDS's detection sets.

`zoo.data.object_files` has the sources for COCO's and VOC's files. An element of a source is
``{"image", "name", "index", "annotations"}``; the image is encoded (an array for digit scenes). The
method `annotations` returns the objects alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from zoo.data.annotations import Annotations, Joints, ObjectTable, labels_of
from zoo.data.decode import image_size
from zoo.data.digit_scenes import CLASS_NAMES, MAX_DIGITS, SIZE, DigitScenes, open_digit_scenes
from zoo.data.errors import DataError
from zoo.data.formats.tfds import features_of, read_record, records_of, tfds_builder
from zoo.ops import rle
from zoo.ops.ragged import lengths_to_offsets


class DetectionSource(Protocol):
    """A random-access source of images with objects."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, by label."""
        ...

    @property
    def category_ids(self) -> tuple[int | str | None, ...]:
        """The data's own id of each label, for result files; None for classes it does not have."""
        ...

    @property
    def joints(self) -> Joints | None:
        """The joints of the keypoints; None if the source was opened without keypoints."""
        ...

    @property
    def sizes(self) -> Int[np.ndarray, "n 2"]:
        """Height and width of each image."""
        ...

    @property
    def target_counts(self) -> Int[np.ndarray, " n"]:
        """Largest possible number of training targets in each image."""
        ...

    def annotations(self, index: int) -> Annotations:
        """All objects of an image, as they were annotated."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class SceneSource:
    """Digit scenes as detection data."""

    scenes: DigitScenes
    masks: bool

    class_names = CLASS_NAMES
    category_ids = tuple(range(len(CLASS_NAMES)))
    joints = None

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        scene = self.scenes[index]
        return {
            "image": scene["image"],
            "name": scene["name"],
            "index": index,
            "annotations": self._annotations(index, scene),
        }

    @property
    def sizes(self) -> Int[np.ndarray, "n 2"]:
        """Height and width of each scene."""
        return np.full((len(self), 2), SIZE)

    @property
    def target_counts(self) -> Int[np.ndarray, " n"]:
        """The most digits that a scene can have."""
        return np.full(len(self), MAX_DIGITS)

    def annotations(self, index: int) -> Annotations:
        """All digits of a scene; its id is its index."""
        return self._annotations(index, self.scenes[index])

    def _annotations(self, index: int, scene: dict[str, Any]) -> Annotations:
        boxes = scene["boxes"].astype(np.float64)
        no = np.zeros(len(boxes), bool)
        return Annotations(
            index,
            (SIZE, SIZE),
            np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1),
            scene["labels"],
            scene["masks"].sum((1, 2)).astype(np.float64),
            no,
            no,
            rle.from_arrays(scene["masks"]) if self.masks else None,
        )


@dataclasses.dataclass(frozen=True)
class TfdsDetectionSource:
    """A split of a TFDS set whose images have ``objects`` with ``bbox`` and ``label``.

    Attributes:
        records: The records, with their images still encoded.
        name: Name of the split in errors.
        table: The objects, read once when the set was opened.
        class_names: Name of each class, by label.
        category_ids: TFDS's own label of each class; None for classes that it does not have.
    """

    records: Sequence[Any]
    name: str
    table: ObjectTable
    class_names: tuple[str, ...]
    category_ids: tuple[int | None, ...]

    joints = None

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = f"{self.name}[{index}]"
        image = read_record(self.records, index, name)["image"]
        annotations = self.annotations(index)
        return {"image": image, "name": name, "index": index, "annotations": annotations}

    @property
    def sizes(self) -> Int[np.ndarray, "n 2"]:
        """Height and width of each image."""
        return self.table.sizes

    @property
    def target_counts(self) -> Int[np.ndarray, " n"]:
        """Number of objects of each image that are not difficult."""
        return self.table.target_counts()

    def annotations(self, index: int) -> Annotations:
        """All objects of an image, difficult ones included; the image is not read."""
        return self.table.annotations(index)


def open_scenes(split: str, class_names: tuple[str, ...] | None, masks: bool) -> SceneSource:
    """Opens the digit scenes of a split; `class_names` must be None or the digits."""
    if class_names not in (None, CLASS_NAMES):
        labels_of(CLASS_NAMES, class_names, "data 'digit_scenes'")
        raise DataError("data 'digit_scenes' has the classes 0 to 9 in this order and no others")
    return SceneSource(open_digit_scenes(split), masks)


def open_tfds_detection(
    source: str,
    data_dir: str | None,
    split: str,
    class_names: tuple[str, ...] | None,
    upright: bool,
) -> TfdsDetectionSource:
    """Opens a split of a prepared TFDS set such as ``voc/2007``, and reads all of its objects.

    Raises:
        DataError: If the set or split does not exist, the set is not prepared or not for detection,
            or a class is unknown.
    """
    builder = tfds_builder(source, data_dir, ("digit_scenes", "coco:DIR", "voc:DIR"))
    features = features_of(builder, source)
    objects = dict(getattr(getattr(features.get("objects"), "feature", None), "items", dict)())
    if not {"bbox", "label"} <= set(objects):
        raise DataError(
            f"data {source!r} is not for detection: it has no objects with bbox and label among"
            f" its features {', '.join(features)}"
        )
    names = tuple(objects["label"].names)
    labels = labels_of(names, class_names or names, f"data {source!r}")
    ids: list[int | None] = [None] * len(class_names or names)
    for category, label in enumerate(labels.tolist()):
        ids[label] = category
    records = records_of(builder, source, split)
    name = f"{builder.info.full_name} {split}"
    # PASCAL VOC counts pixels from 1 and includes the last one; TFDS does not change this.
    first_pixel = 1.0 if builder.name == "voc" else 0.0
    table = _table(records, name, labels, first_pixel, upright)
    return TfdsDetectionSource(records, name, table, class_names or names, tuple(ids))


def _table(
    records: Sequence[Any],
    name: str,
    labels: Int[np.ndarray, " k"],
    first_pixel: float,
    upright: bool,
) -> ObjectTable:
    ids, sizes, columns = [], [], []
    for index in range(len(records)):
        where = f"{name}[{index}]"
        try:
            record = read_record(records, index, where)
            size = image_size(record["image"], where, upright=upright)
        except DataError:  # reading it later raises this again, and counts it
            record, size = {}, (1, 1)
        ids.append(_image_id(record, index))
        sizes.append(size)
        columns.append(_objects(record.get("objects"), size, first_pixel, where))
    boxes, label, difficult = (np.concatenate(part) for part in zip(*columns, strict=True))
    return ObjectTable(
        ids,
        np.array(sizes, np.int64),
        lengths_to_offsets(np.array([len(part[1]) for part in columns])),
        boxes,
        labels[label],
        boxes[:, 2:].prod(axis=1),
        np.zeros(len(boxes), bool),
        difficult,
    )


def _image_id(record: Mapping[str, Any], index: int) -> int | str:
    """File name of the image without its suffix, as in VOC's result files; else its index."""
    name = record.get("image/filename")
    return index if name is None else name.decode().rpartition(".")[0]


def _objects(
    objects: Any, size: tuple[int, int], first_pixel: float, where: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes xywh in pixels, labels, and whether each object is difficult."""
    if objects is None:
        return np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool)
    shares = np.array(objects["bbox"], np.float64).reshape(-1, 4)  # ymin xmin ymax xmax
    if not np.isfinite(shares).all():
        raise DataError(f"{where}: an object's bbox has numbers that are not finite")
    # Rounded to a thousandth of a pixel, because TFDS stores shares in float32.
    top, left, bottom, right = (shares * np.tile(size, 2)).round(3).T
    top, left = top - first_pixel, left - first_pixel
    boxes = np.stack([left, top, right - left, bottom - top], axis=1)
    labels = np.array(objects["label"], np.int64)
    return boxes, labels, np.array(objects.get("is_difficult", np.zeros(len(labels))), bool)
