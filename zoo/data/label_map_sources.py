"""Sources of images with a label map: digit scenes, folders, PASCAL VOC's folder, TFDS's sets.

An element of a source is ``{"image", "label_map", "name", "mask_name"}``: encoded bytes (arrays for
digit scenes), and the names of both in errors. The table `labels` converts each value of a mask,
0..255, to a label.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from zoo.data import digit_scenes
from zoo.data.errors import DataError, some
from zoo.data.formats.folders import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    files_by_name,
    read_bytes,
    read_class_names,
    slice_of,
    split_folder,
)
from zoo.data.formats.own_data import own_data_hint
from zoo.data.formats.tfds import features_of, read_record, records_of, tfds_builder
from zoo.data.formats.voc import SEGMENTATION_CLASSES, label_map_files
from zoo.types import IGNORE_LABEL

NO_LABEL = -1

# Cityscapes' own names and order, and the ids of its 19 evaluated classes.
CITYSCAPES_CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle"),
)
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_PET_CLASSES = ("pet", "background", "border")  # values 1, 2 and 3 of the masks

Table = Int[np.ndarray, " 256"]


class SegmentationSource(Protocol):
    """A random-access source of images with a label map."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, by label."""
        ...

    @property
    def labels(self) -> Table:
        """The label of each value of a mask: a class, `IGNORE_LABEL`, or `NO_LABEL` if invalid."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


def label_table(values: Sequence[int], ignored: Sequence[int]) -> Table:
    """A table that gives `values` the labels 0, 1, ..., and `ignored` the `IGNORE_LABEL`."""
    table = np.full(256, NO_LABEL)
    table[list(values)] = np.arange(len(values))
    table[list(ignored)] = IGNORE_LABEL
    return table


@dataclasses.dataclass(frozen=True)
class SceneLabels:
    """Digit scenes; the classes are the background, and the ink of each digit."""

    scenes: digit_scenes.DigitScenes

    class_names = ("ground", *digit_scenes.CLASS_NAMES)
    labels = label_table(range(11), ())

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        scene = self.scenes[index]
        name = scene["name"]
        return {
            "image": scene["image"],
            "label_map": scene["semantic"],
            "name": name,
            "mask_name": name,
        }


@dataclasses.dataclass(frozen=True)
class PairSource:
    """Paths of images, and of their masks in the same order."""

    images: list[str]
    masks: list[str]
    class_names: tuple[str, ...]
    labels: Table

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, mask = self.images[index], self.masks[index]
        return {
            "image": read_bytes(image),
            "label_map": read_bytes(mask),
            "name": image,
            "mask_name": mask,
        }


@dataclasses.dataclass(frozen=True)
class TfdsLabels:
    """A split of a TFDS set; its features named `image` and `mask` are still encoded."""

    records: Sequence[Any]
    name: str
    image: str
    mask: str
    class_names: tuple[str, ...]
    labels: Table

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = f"{self.name}[{index}]"
        record = read_record(self.records, index, name)
        return {
            "image": record[self.image],
            "label_map": record[self.mask],
            "name": name,
            "mask_name": f"{name} {self.mask}",
        }


# TFDS's sets with masks: features of image and mask, class names, labels. TFDS's voc has no masks.
_TFDS_SETS = {
    "oxford_iiit_pet": ("image", "segmentation_mask", _PET_CLASSES, label_table((1, 2, 3), ())),
    "cityscapes": (
        "image_left",
        "segmentation_label",
        CITYSCAPES_CLASSES,
        label_table(_CITYSCAPES_IDS, sorted({*range(34), 255} - set(_CITYSCAPES_IDS))),
    ),
}


def open_labelled(
    source: str,
    data_dir: str | None,
    split: str,
    ignore_label: int,
    class_names: tuple[str, ...] | None,
) -> SegmentationSource:
    """Opens one split of a source; for the arguments see `zoo.data.segmentation`.

    Raises:
        DataError: If the source or split does not exist, an image has no mask, or the classes are
            not `class_names`.
    """
    kind, colon, path = source.partition(":")
    kind = kind if colon else ""
    if source == "digit_scenes":
        opened: SegmentationSource = SceneLabels(digit_scenes.open_digit_scenes(split))
    elif kind == "folder":
        opened = open_pairs(path, split, ignore_label)
    elif kind == "voc":
        opened = open_voc(path, split)
    else:
        opened = _open_tfds(source, data_dir, split)
    if class_names not in (None, opened.class_names):
        raise DataError(
            f"data {source!r} has the classes {some(opened.class_names)}, but the model has"
            f" other classes: {some(class_names)}"
        )
    return opened


def open_pairs(path: str, split: str, ignore_label: int) -> PairSource:
    """Opens ``PATH/SPLIT/images/**`` with masks of the same names, ``PATH/SPLIT/masks/**``.

    Each line of ``PATH/classes.txt`` is a class; the values of the masks are the numbers of the
    lines, from 0 on.
    """
    folder = Path(path).expanduser()
    class_names = read_class_names(folder / "classes.txt", most=IGNORE_LABEL)
    root = split_folder(folder, split.partition("[")[0])
    images, masks = (
        files_by_name(root / part, suffixes)
        for part, suffixes in (("images", IMAGE_SUFFIXES), ("masks", MASK_SUFFIXES))
    )
    for here, there, what in ((images, masks, "masks"), (masks, images, "images")):
        if lost := sorted(set(here) - set(there)):
            more = f" (nor for {len(lost) - 1} more)" if len(lost) > 1 else ""
            raise DataError(f"{here[lost[0]]}: nothing of that name in {root / what}{more}")
    names = sorted(images)
    if "[" in split:
        names = [names[i] for i in slice_of(split, root, names)]
    return PairSource(
        [images[name] for name in names],
        [masks[name] for name in names],
        class_names,
        label_table(range(len(class_names)), (ignore_label,)),
    )


def open_voc(path: str, split: str) -> PairSource:
    """Opens PASCAL VOC's folder of a year: the images in ``ImageSets/Segmentation/SPLIT.txt``."""
    root = Path(path).expanduser()
    files = label_map_files(root, split.partition("[")[0])
    if "[" in split:
        files = [files[i] for i in slice_of(split, root, [image.stem for image, _ in files])]
    return PairSource(
        [str(image) for image, _ in files],
        [str(mask) for _, mask in files],
        SEGMENTATION_CLASSES,
        label_table(range(21), (IGNORE_LABEL,)),
    )


def _open_tfds(source: str, data_dir: str | None, split: str) -> TfdsLabels:
    others = ("digit_scenes", "folder:PATH", "voc:PATH")
    builder: Any = tfds_builder(source, data_dir, others)
    if builder.name not in _TFDS_SETS:
        raise DataError(
            f"data {source!r} is not for segmentation; there are digit_scenes, folder:PATH,"
            f" voc:PATH and of TFDS's {', '.join(_TFDS_SETS)}"
            + (f"; or, {hint}" if (hint := own_data_hint(source, others)) else "")
        )
    image, mask, class_names, labels = _TFDS_SETS[builder.name]
    features = features_of(builder, source)
    if mask not in features:
        raise DataError(f"data {source!r} has no {mask} among its features {', '.join(features)}")
    records = records_of(builder, source, split, images=(image, mask))
    return TfdsLabels(
        records, f"{builder.info.full_name} {split}", image, mask, class_names, labels
    )
