"""PASCAL VOC's annotation files with their images: a folder of xml, for detection.

Two layouts are read. The devkit's, one folder a year::

    DIR/ImageSets/Main/SPLIT.txt    DIR/Annotations/NAME.xml    DIR/JPEGImages/NAME.jpg

and the one that annotation tools export, a folder a split::

    DIR/SPLIT/NAME.xml    DIR/SPLIT/NAME.jpg

VOC counts pixels from 1 and includes the last one, so that a box of 1 to 30 is 30 pixels wide.
"""

import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.data.annotations import ObjectTable, labels_of
from zoo.data.coco import CocoSource, take_images
from zoo.data.decode import image_size
from zoo.data.errors import DataError
from zoo.data.sources import IMAGE_SUFFIXES, slice_of, split_folder
from zoo.ops.ragged import lengths_to_offsets

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def open_voc_detection(
    path: str, split: str, class_names: tuple[str, ...] | None, upright: bool
) -> CocoSource:
    """Opens a split of a folder.

    Args:
        path: The folder, of one of the two layouts.
        split: The name of a split, or a slice of it such as ``train[:90%]``.
        class_names: What labels are positions in, by name; None is the names in the split as a
            whole, sorted.
        upright: Images whose xml has no size are measured after EXIF's orientation is applied.

    Raises:
        DataError: If the folder, a file or an image is not there, or something in it cannot be.
    """
    folder = Path(path).expanduser()
    source = _read(_files(folder, split.partition("[")[0]), folder, class_names, upright)
    if "[" not in split:
        return source
    names = [str(image) for image in source.table.image_ids]
    return take_images(source, np.array(slice_of(split, folder, names), np.int64))


def _files(folder: Path, split: str) -> list[tuple[Path, Path]]:
    """The annotation files of a split and the folders of their images."""
    listing = folder / "ImageSets" / "Main" / f"{split}.txt"
    if listing.is_file():
        names = [line.split()[0] for line in listing.read_text().splitlines() if line.strip()]
        return [(folder / "Annotations" / f"{n}.xml", folder / "JPEGImages") for n in names]
    if (folder / "ImageSets").is_dir():
        there = sorted(file.stem for file in listing.parent.glob("*.txt") if "_" not in file.stem)
        raise DataError(f"{listing}: no such file; there are {', '.join(there) or 'none'}")
    root = split_folder(folder, split)
    files = [(xml, root) for xml in sorted(root.glob("*.xml"))]
    if not files:
        raise DataError(f"{root}: no .xml files beside the images")
    return files


def _read(
    files: Sequence[tuple[Path, Path]],
    folder: Path,
    class_names: tuple[str, ...] | None,
    upright: bool,
) -> CocoSource:
    images, sizes, counts, names, rows = [], [], [], [], []
    for xml, image_folder in files:
        root = _parse(xml)
        images.append(_image_path(xml, image_folder, root))
        sizes.append(_size(xml, images[-1], root, upright))
        things = list(root.iter("object"))
        counts.append(len(things))
        names += [_text(xml, thing, "name") for thing in things]
        rows += [_row(xml, thing) for thing in things]
    known = tuple(sorted(set(names)))
    if not known and class_names is None:
        raise DataError(f"{folder}: no object in any of the {len(files)} .xml files")
    labels = dict(zip(known, labels_of(known, class_names or known, str(folder)), strict=True))
    table = np.array(rows, np.float64).reshape(-1, 5)
    boxes = table[:, :4]
    object_table = ObjectTable(
        [xml.stem for xml, _ in files],
        np.array(sizes, np.int64).reshape(-1, 2),
        lengths_to_offsets(np.array(counts, np.int64)),
        boxes,
        np.array([labels[name] for name in names], np.int32),
        boxes[:, 2:].prod(axis=1),
        np.zeros(len(boxes), bool),
        table[:, 4] != 0,
    )
    class_names = class_names or known
    return CocoSource(
        str(folder), "", images, object_table, class_names, tuple(range(len(class_names)))
    )


def _parse(xml: Path) -> ET.Element:
    try:
        return ET.parse(xml).getroot()
    except OSError as error:
        raise DataError(f"{xml}: cannot be read: {error.strerror}") from error
    except ET.ParseError as error:
        raise DataError(f"{xml}: not xml: {error}") from error


def _image_path(xml: Path, folder: Path, root: ET.Element) -> str:
    """The file that the xml names, or one of the xml's own name."""
    named = os.path.basename((root.findtext("filename") or "").strip().replace("\\", "/"))
    candidates = [named, *(xml.stem + suffix for suffix in IMAGE_SUFFIXES)]
    for name in candidates:
        if name and (folder / name).is_file():
            return str(folder / name)
    raise DataError(f"{xml}: its image {named or xml.stem + '.jpg'} is not in {folder}")


def _size(xml: Path, image: str, root: ET.Element, upright: bool) -> tuple[int, int]:
    """Height and width; some tools leave them out, or at 0."""
    height, width = (root.findtext(f"size/{side}") or "0" for side in ("height", "width"))
    try:
        size = int(height), int(width)
    except ValueError:
        raise DataError(f"{xml}: size is {height} x {width}") from None
    return size if min(size) > 0 else image_size(Path(image).read_bytes(), image, upright=upright)


def _row(xml: Path, thing: ET.Element) -> tuple[float, ...]:
    """Box xywh, counted from 0, and whether the object is difficult."""
    texts = [_text(xml, thing, f"bndbox/{corner}") for corner in _CORNERS]
    try:
        left, top, right, bottom = map(float, texts)
        difficult = int(thing.findtext("difficult") or 0)
        if not (left <= right < np.inf and top <= bottom < np.inf and min(left, top) >= 0):
            raise ValueError
    except ValueError:
        corners = ", ".join(f"{c} {text}" for c, text in zip(_CORNERS, texts, strict=True))
        raise DataError(
            f"{xml}: {_text(xml, thing, 'name')}: a box of {corners} cannot be"
        ) from None
    left, top = max(left - 1, 0), max(top - 1, 0)  # 0 where a tool counts from there
    return left, top, right - left, bottom - top, difficult


def _text(xml: Path, element: ET.Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise DataError(f"{xml}: <{element.tag}> without {path}")
    return text
