"""Reads PASCAL VOC's files: annotation xml, the devkit's folders, and its result files.

VOC counts pixels from 1 and includes the last one: a box of 1 to 30 is 30 pixels wide. Training and
the devkit's evaluation convert this to boxes in different ways: see `pixel_boxes` and
`devkit_boxes`.
"""

import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

from zoo.data.errors import DataError
from zoo.data.formats.folders import (
    files_of_type,
    find_file,
    read_names,
    read_text,
    split_folder,
)
from zoo.data.formats.results import Results
from zoo.text_files import FLAGS, plain_name

# Names of the values 0, 1, ... of label maps.
SEGMENTATION_CLASSES = tuple(
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse"
    " motorbike person pottedplant sheep sofa train tvmonitor".split()
)

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_MOST = 1e9  # no number of a box is larger
_NO_RESULT = "not image, score and a box"


class VocObject(NamedTuple):
    """An object of the xml; `corners` has the first and last pixel of its box, counted from 1."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


class VocImage(NamedTuple):
    """An annotation file.

    Attributes:
        path: The file; its stem is the image's id.
        file_name: File name of the image, without its folder; empty if the file does not say.
        size: Height and width; 0 if the file does not say.
        objects: In the order of the file.
    """

    path: Path
    file_name: str
    size: tuple[int, int]
    objects: list[VocObject]


def read_xml(path: Path) -> VocImage:
    """Reads an annotation file.

    Raises:
        DataError: If it cannot be read, is not xml, or lacks an element.
    """
    text = read_text(path).strip()
    if not text:
        raise DataError(f"{path}: not xml: the file is empty")
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError) as error:
        raise DataError(f"{path}: not xml: {error}") from error
    height, width = ((root.findtext(f"size/{side}") or "").strip() for side in ("height", "width"))
    size = _side(height), _side(width)
    if min(size) < 0:
        raise DataError(f"{path}: size is {height} x {width}")
    named = (root.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
    return VocImage(path, named, size, [_object(path, thing) for thing in root.iter("object")])


def _object(path: Path, thing: ET.Element) -> VocObject:
    name = plain_name(_text(path, thing, "name"))
    texts = [_text(path, thing, f"bndbox/{corner}") for corner in _CORNERS]
    try:
        left, top, right, bottom = map(float, texts)
    except ValueError as error:
        raise DataError(f"{path}: {name}: {error}") from None
    return VocObject(name, (left, top, right, bottom), _difficult(path, name, thing))


def _difficult(path: Path, name: str, thing: ET.Element) -> bool:
    text = (thing.findtext("difficult") or "").strip()
    if (word := FLAGS.get(text.lower())) is not None:
        return word
    try:
        return int(float(text)) != 0
    except (ValueError, OverflowError):
        raise DataError(f"{path}: {name}: difficult is {text!r}, not 0, 1 or a word") from None


def _side(text: str) -> int:
    """A whole number of pixels; 0 if the file does not say, -1 if it is none."""
    try:
        number = float(text) if FLAGS.get(text.lower()) is not False else 0.0
    except ValueError:
        return -1
    return int(number) if number.is_integer() and number < _MOST else -1


def _text(path: Path, element: ET.Element, below: str) -> str:
    text = (element.findtext(below) or "").strip()
    if not text:
        raise DataError(f"{path}: <{element.tag}> without {below}")
    return text


def pixel_boxes(image: VocImage) -> Float64[np.ndarray, "n 4"]:
    """Boxes xywh, counted from 0, that enclose the pixels; used for training.

    Raises:
        DataError: If a box ends before it begins, or begins before 0.
    """
    boxes = []
    for name, corners, _ in image.objects:
        left, top, right, bottom = corners
        if not (0 <= left <= right <= _MOST and 0 <= top <= bottom <= _MOST):
            pairs = zip(_CORNERS, corners, strict=True)
            text = ", ".join(f"{corner} {value:g}" for corner, value in pairs)
            raise DataError(f"{image.path}: {name}: a box of {text} cannot be")
        left, top = max(left - 1, 0), max(top - 1, 0)  # it stays 0 if a tool counts from 0
        boxes.append((left, top, right - left, bottom - top))
    return np.array(boxes, np.float64).reshape(-1, 4)


def devkit_boxes(image: VocImage) -> Float64[np.ndarray, "n 4"]:
    """Boxes left, top, right - left, bottom - top; used for the devkit's evaluation.

    Raises:
        DataError: If a box ends before it begins.
    """
    boxes = _to_xywh(np.array([one.corners for one in image.objects], float).reshape(-1, 4))
    for one, bad in zip(image.objects, _cannot_be(boxes), strict=True):
        if bad:
            raise DataError(f"{image.path}: bndbox {list(one.corners)} cannot be")
    return boxes


def _to_xywh(corners: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=-1)


def _cannot_be(boxes_xywh: Float[np.ndarray, "n 4"]) -> Bool[np.ndarray, " n"]:
    possible = (np.abs(boxes_xywh) <= _MOST).all(axis=1)
    return np.logical_or(~possible, (boxes_xywh[:, 2:] < 0).any(axis=1))


def annotation_files(folder: Path, split: str) -> list[tuple[Path, Path]]:
    """The annotation files of a split, each with the folder of its image, in one of two layouts.

    The layout of the devkit, in the folder of a year::

        DIR/ImageSets/Main/SPLIT.txt    DIR/Annotations/NAME.xml    DIR/JPEGImages/NAME.jpg

    and the layout that annotation tools export, with a folder for each split::

        DIR/SPLIT/NAME.xml    DIR/SPLIT/NAME.jpg

    Raises:
        DataError: If there is no such split, or it has no files.
    """
    listing = folder / "ImageSets" / "Main" / f"{split}.txt"
    if listing.is_file():
        names = read_names(listing)
        if not names:
            raise DataError(f"{listing}: lists no images")
        xmls = [Path(find_file(folder / "Annotations", f"{name}.xml")) for name in names]
        return [(xml, folder / "JPEGImages") for xml in xmls]
    if (folder / "ImageSets").is_dir():
        lists = files_of_type(listing.parent, ".txt") if listing.parent.is_dir() else []
        there = [file.stem for file in lists if "_" not in file.stem]
        raise DataError(f"{listing}: no such file; there are {', '.join(there) or 'none'}")
    root = split_folder(folder, split)
    files = [(xml, root) for xml in files_of_type(root, ".xml")]
    if not files:
        raise DataError(f"{root}: no .xml files beside the images")
    return files


def label_map_files(folder: Path, split: str) -> list[tuple[Path, Path]]:
    """The images and masks that the devkit's ``ImageSets/Segmentation/SPLIT.txt`` lists.

    Raises:
        DataError: If there is no such list, or it is empty.
    """
    listing = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not listing.is_file():
        raise DataError(
            f"{listing}: No such file; PATH of voc:PATH is the folder with ImageSets,"
            " JPEGImages and SegmentationClass, such as VOCdevkit/VOC2012, and its splits are"
            " train, val and trainval"
        )
    names = read_text(listing).split()
    if not names:
        raise DataError(f"{listing}: lists no images")

    def find(part: str, name: str) -> Path:
        return Path(find_file(folder / part, name))

    return [
        (find("JPEGImages", f"{name}.jpg"), find("SegmentationClass", f"{name}.png"))
        for name in names
    ]


def read_results(
    folder: Path, image_ids: Sequence[str], categories: Mapping[str, int]
) -> tuple[Results, list[str]]:
    """Reads files ``..._CATEGORY.txt``; a line is: image, score, left, top, right, bottom.

    The category of a file is the longest known name at the end of its stem. Boxes are converted as
    in `devkit_boxes`.

    Args:
        folder: Folder of the files.
        image_ids: Ids of the annotated images.
        categories: Ids of the annotated categories, by name.

    Returns:
        The results, and warnings about files of unknown categories.

    Raises:
        DataError: If there are no files, two files have the same category, or a line is damaged or
            has an unknown image; the message names it.
    """
    paths = files_of_type(folder, ".txt")
    if not paths:
        raise DataError(f"{folder}: no .txt files")
    images = {image: i for i, image in enumerate(image_ids)}
    rows, warnings, read = [], [], {}
    for path in paths:
        if (name := _category(path, categories)) is None:
            unknown = path.stem.rpartition("_")[2]
            warnings.append(f"{path}: ignored, no object of category {unknown!r} is annotated")
            continue
        if name in read:
            raise DataError(f"{path}: category {name!r} was in {read[name].name} already")
        read[name] = path
        rows += [(*row[:1], categories[name], *row[1:]) for row in _result_rows(path, images)]
    table = np.array(rows, float).reshape(-1, 7)
    boxes = _to_xywh(table[:, 3:])
    owners, labels = table[:, :2].astype(int).T
    return Results(owners, labels, table[:, 2], boxes, (boxes[:, 2:] + 1).prod(axis=1)), warnings


def _category(path: Path, names: Collection[str]) -> str | None:
    endings = [name for name in names if f"_{path.stem}".endswith(f"_{name}")]
    return max(endings, key=len, default=None)


def _result_rows(path: Path, images: Mapping[str, int]) -> list[tuple[float, ...]]:
    """Position of the image, score and corners of each line."""
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            image, *numbers = line.split()
            score, left, top, right, bottom = map(float, numbers)
            owner = images[image]
        except KeyError as error:
            raise DataError(f"{path}:{number}: image {error} is not annotated") from None
        except ValueError:
            raise DataError(f"{path}:{number}: {_NO_RESULT}: {line!r}") from None
        corners = (left, top, right, bottom)
        if not np.isfinite(score) or _cannot_be(_to_xywh(np.array([corners]))).any():
            raise DataError(f"{path}:{number}: {_NO_RESULT}: {line!r}")
        rows.append((owner, score, *corners))
    return rows
