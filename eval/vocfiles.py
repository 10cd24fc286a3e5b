"""PASCAL VOC's files: a folder of annotation xml, and the devkit's result files."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from eval.cocojson import Category as CategoryRecord
from eval.cocojson import FileError, GroundTruth, Image
from eval.records import Detections, Objects


def read_ground_truth(folder: Path) -> GroundTruth:
    """Reads ``*.xml``; an image's id is its file's stem, categories are numbered by name.

    Raises:
        FileError: If there are none, or one is damaged; names the file.
    """
    paths = sorted(folder.glob("*.xml"))
    if not paths:
        raise FileError(f"{folder}: no .xml files")
    rows, names, images = [], [], []
    for i, path in enumerate(paths):
        try:
            root = ET.parse(path).getroot()
            images.append(Image(path.stem, root.findtext("filename") or f"{path.stem}.jpg"))
            for thing in root.iter("object"):
                names.append(_text(thing, "name"))
                corners = [
                    float(_text(thing, f"bndbox/{c}")) for c in ("xmin", "ymin", "xmax", "ymax")
                ]
                rows.append([i, *corners, int(thing.findtext("difficult") or 0)])
        except (ET.ParseError, ValueError) as error:
            raise FileError(f"{path}: {error}") from None
    table = np.array(rows, float).reshape(-1, 6)
    known, which = np.unique(np.array(names, str), return_inverse=True)
    boxes = _to_xywh(table[:, 1:5])
    if (bad := _first_bad(boxes)) is not None:
        raise FileError(f"{paths[int(table[bad, 0])]}: bndbox {rows[bad][1:5]} cannot be")
    difficult = table[:, 5] != 0
    objects = Objects(
        table[:, 0].astype(int),
        which,
        boxes,
        (boxes[:, 2:] + 1).prod(axis=1),
        np.zeros(len(table), bool),
        difficult,
    )
    categories = [CategoryRecord(i, str(name)) for i, name in enumerate(known)]
    return GroundTruth(images, categories, objects, np.arange(len(table)), [])


def _text(element: ET.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"<{element.tag}> without {path}")
    return text.strip()


def _to_xywh(corners: np.ndarray) -> np.ndarray:
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=-1)


def _first_bad(boxes_xywh: np.ndarray) -> int | None:
    bad = ~np.isfinite(boxes_xywh).all(axis=1) | (boxes_xywh[:, 2:] < 0).any(axis=1)
    return int(np.flatnonzero(bad)[0]) if bad.any() else None


def read_results(folder: Path, truth: GroundTruth) -> tuple[Detections, list[str]]:
    """Reads ``..._CATEGORY.txt``: image, score, left, top, right, bottom a line.

    A category is the longest name known from the annotations that the file's stem ends with.

    Returns:
        The detections, and warnings about files of unknown categories.

    Raises:
        FileError: If there are none, two of one category, or a line that is damaged or about an
            unknown image; names it.
    """
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise FileError(f"{folder}: no .txt files")
    ids = {category.name: category.id for category in truth.categories}
    images = {image.id: i for i, image in enumerate(truth.images)}
    rows, warnings, read = [], [], {}
    for path in paths:
        endings = [name for name in ids if f"_{path.stem}".endswith(f"_{name}")]
        if not endings:
            name = path.stem.rpartition("_")[2]
            warnings.append(f"{path}: ignored, no object of category {name!r} is annotated")
            continue
        name = max(endings, key=len)
        if name in read:
            raise FileError(f"{path}: category {name!r} was in {read[name].name} already")
        read[name] = path
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise FileError(f"{path}: not text: {error}") from None
        for number, line in enumerate(text.splitlines(), 1):
            try:
                image, *numbers = line.split()
                score, *corners = map(float, numbers)
                row = [images[image], ids[name], score, *corners]
            except KeyError as error:
                raise FileError(f"{path}:{number}: image {error} is not annotated") from None
            except ValueError:
                row = []
            box = _to_xywh(np.array([row[3:]])) if len(row) == 7 else None
            if box is None or _first_bad(box) is not None or not np.isfinite(row[2]):
                raise FileError(f"{path}:{number}: not image, score and a box: {line!r}")
            rows.append(row)
    table = np.array(rows, float).reshape(-1, 7)
    boxes = _to_xywh(table[:, 3:])
    area = (boxes[:, 2:] + 1).prod(axis=1)
    images_column, categories = table[:, :2].astype(int).T
    return Detections(images_column, categories, table[:, 2], boxes, area), warnings
