"""Sources of images with a label map: digit scenes, folders, PASCAL VOC's folder, TFDS's sets.

Each is random access to ``{"image", "label_map", "name", "mask_name"}``: encoded bytes, or arrays
where they are drawn, and what errors call them. The values of a mask become labels by `labels`, a
table of all bytes.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from zoo.data import digit_scenes
from zoo.data.errors import DataError, some
from zoo.data.sources import (
    IMAGE_SUFFIXES,
    features_of,
    read_record,
    records_of,
    slice_of,
    split_folder,
    tfds_builder,
)
from zoo.types import IGNORE_LABEL

NO_LABEL = -1

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")

# PASCAL VOC's and Cityscapes' own names and order; Cityscapes' ids of its 19 evaluated classes.
VOC_CLASSES = tuple(
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse"
    " motorbike person pottedplant sheep sofa train tvmonitor".split()
)
CITYSCAPES_CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle"),
)
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_PET_CLASSES = ("pet", "background", "border")  # 1, 2 and 3 in the masks

Table = Int[np.ndarray, " 256"]


class SegmentationSource(Protocol):
    """A random-access source of images with a label map."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, by label."""
        ...

    @property
    def labels(self) -> Table:
        """The label of each value of a mask; `IGNORE_LABEL`, or `NO_LABEL` if it has no meaning."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


def label_table(values: Sequence[int], ignored: Sequence[int]) -> Table:
    """A table that gives `values` the labels 0, 1, ..., except those that are to be ignored."""
    table = np.full(256, NO_LABEL)
    table[list(values)] = np.arange(len(values))
    table[list(ignored)] = IGNORE_LABEL
    return table


@dataclasses.dataclass(frozen=True)
class SceneLabels:
    """Digit scenes: the ground, and the ink of each digit."""

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
    """Files of images, and files of the same number of masks in the same order."""

    images: list[str]
    masks: list[str]
    class_names: tuple[str, ...]
    labels: Table

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, mask = self.images[index], self.masks[index]
        return {
            "image": _read(image),
            "label_map": _read(mask),
            "name": image,
            "mask_name": mask,
        }


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


@dataclasses.dataclass(frozen=True)
class TfdsLabels:
    """A split of a TFDS set, whose features `image` and `mask` are undecoded."""

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


# TFDS's sets with masks: their features, class names, and labels. Its voc has none.
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
        DataError: If there is no such source or split, an image lacks its mask, or the classes are
            not the model's.
    """
    kind, _, path = source.partition(":")
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
            f"data {source!r} has the classes {some(opened.class_names)}, but the model those of"
            f" other data: {some(class_names)}"
        )
    return opened


def open_pairs(path: str, split: str, ignore_label: int) -> PairSource:
    """``PATH/SPLIT/images/**`` with ``PATH/SPLIT/masks/**`` of the same names.

    The classes are the lines of ``PATH/classes.txt``; the values of the masks are their numbers,
    from 0 on.
    """
    folder = Path(path).expanduser()
    class_names = _read_classes(folder / "classes.txt")
    root = split_folder(folder, split.partition("[")[0])
    images, masks = (
        _files(root / part, suffixes)
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


def _read_classes(path: Path) -> tuple[str, ...]:
    try:
        names = tuple(line.strip() for line in path.read_text("utf-8").rstrip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); it has the name of a class a line, for the values"
            " 0, 1, ... of the masks"
        ) from error
    if not names or "" in names or len(set(names)) < len(names):
        raise DataError(f"{path}: it needs a class a line, none blank and none twice")
    if len(names) > IGNORE_LABEL:
        raise DataError(f"{path}: {len(names)} classes, but there can be no more than 255")
    return names


def _files(root: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Files below a folder by their path in it, without the ending."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found: dict[str, str] = {}
    for path in sorted(_walk(str(root))):
        name, suffix = os.path.splitext(os.path.relpath(path, root))
        if suffix.lower() in suffixes:
            if name in found:
                raise DataError(f"{path}: {os.path.basename(found[name])} has the same name")
            found[name] = path
    if not found:
        raise DataError(f"{root}: no images ({' '.join(suffixes)})")
    return found


def _walk(folder: str) -> Iterator[str]:
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry.path)
        else:
            yield entry.path


def open_voc(path: str, split: str) -> PairSource:
    """PASCAL VOC's folder of a year: the images of ``ImageSets/Segmentation/SPLIT.txt``."""
    root, name = Path(path).expanduser(), split.partition("[")[0]
    listing = root / "ImageSets" / "Segmentation" / f"{name}.txt"
    try:
        names = listing.read_text().split()
    except OSError as error:
        raise DataError(
            f"{listing}: {error.strerror}; PATH of voc:PATH is the folder with ImageSets,"
            " JPEGImages and SegmentationClass, such as VOCdevkit/VOC2012, and its splits are"
            " train, val and trainval"
        ) from error
    if "[" in split:
        names = [names[i] for i in slice_of(split, root, names)]
    return PairSource(
        [str(root / "JPEGImages" / f"{name}.jpg") for name in names],
        [str(root / "SegmentationClass" / f"{name}.png") for name in names],
        VOC_CLASSES,
        label_table(range(21), (IGNORE_LABEL,)),
    )


def _open_tfds(source: str, data_dir: str | None, split: str) -> TfdsLabels:
    builder: Any = tfds_builder(source, data_dir)
    if builder.name not in _TFDS_SETS:
        raise DataError(
            f"data {source!r} is not for segmentation; there are digit_scenes, folder:PATH,"
            f" voc:PATH and of TFDS's {', '.join(_TFDS_SETS)}"
        )
    image, mask, class_names, labels = _TFDS_SETS[builder.name]
    features = features_of(builder, source)
    if mask not in features:
        raise DataError(f"data {source!r} has no {mask} among its features {', '.join(features)}")
    records = records_of(builder, source, split, images=(image, mask))
    return TfdsLabels(
        records, f"{builder.info.full_name} {split}", image, mask, class_names, labels
    )
