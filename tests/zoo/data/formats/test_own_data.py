import shutil
from pathlib import Path

import pytest

from tests import samples
from zoo.data import (
    ClassificationData,
    DataError,
    DetectionData,
    SegmentationData,
    TranslationData,
    open_classification,
    open_detection,
    open_segmentation,
    open_translation,
)

CLASSES = (open_classification, ClassificationData)
BOXES = (open_detection, DetectionData)
PIXELS = (open_segmentation, SegmentationData)
TEXTS = (open_translation, TranslationData)


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    for name in ("photos", "boxes", "scans", "voc", "pairs.tsv"):
        samples.FILES[name](tmp_path / name)
    shutil.copytree(tmp_path / "photos", tmp_path / "all" / "photos")
    shutil.copytree(tmp_path / "boxes", tmp_path / "coco")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("reader", "source", "right"),
    [
        (CLASSES, "photos", "folder:photos"),
        (CLASSES, "./photos", "folder:./photos"),
        (CLASSES, "all/photos", "folder:all/photos"),
        (BOXES, "boxes", "coco:boxes"),
        (BOXES, "coco", "coco:coco"),
        (BOXES, "voc", "voc:voc"),
        (PIXELS, "scans", "folder:scans"),
        (PIXELS, "voc", "voc:voc"),
        (TEXTS, "pairs.tsv", "pairs:pairs.tsv"),
    ],
)
def test_a_folder_without_its_kind(reader, source, right):
    open_data, data = reader
    with pytest.raises(DataError, match=rf"write {right}$"):
        open_data(data(source=source), "train")


@pytest.mark.parametrize(
    ("reader", "source", "what"),
    [
        (CLASSES, "boxes", "boxes in COCO's json"),
        (CLASSES, "scans", "images and masks"),
        (BOXES, "photos", "class folders of images"),
        (BOXES, "scans", "images and masks"),
        (PIXELS, "photos", "class folders of images"),
        (PIXELS, "boxes", "boxes in COCO's json"),
        (TEXTS, "photos", "class folders of images"),
    ],
)
def test_a_folder_for_another_task(reader, source, what):
    open_data, data = reader
    with pytest.raises(
        DataError, match=rf"{source} holds {what}, which are for another task; use "
    ):
        open_data(data(source=source), "train")


def test_a_folder_that_holds_nothing_is_not_offered():
    Path("digit").mkdir()
    with pytest.raises(DataError, match=r"unknown data 'digit'; near names: digits"):
        open_classification(ClassificationData(source="digit"), "train")
