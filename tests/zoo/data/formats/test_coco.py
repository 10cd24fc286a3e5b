"""COCO's annotation files: what is read from them, and which files are errors."""

import dataclasses
import logging

import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.zoo.data.coco_folder import annotations, rewrite
from zoo.data import DataError, DetectionData, eval_batches, open_detection

replace = dataclasses.replace


def test_category_ids_go_to_labels_and_back(config):
    source = open_detection(config, "train").source
    assert source.class_names == ("cat", "dog", "zebra")
    assert source.category_ids == (7, 21, 90)
    assert source.labels == {7: 0, 21: 1, 90: 2}
    for index in range(len(source)):
        found = source.annotations(index)
        ids = [source.category_ids[label] for label in found.labels]
        expected = [a for a in annotations()["annotations"] if a["image_id"] == found.image_id]
        assert ids == [a["category_id"] for a in expected]
        np.testing.assert_array_equal(
            found.boxes_xywh, np.reshape([a["bbox"] for a in expected], (-1, 4))
        )
        assert found.areas.tolist() == [a["area"] for a in expected]
        assert found.crowd.tolist() == [bool(a["iscrowd"]) for a in expected]
    assert [source.annotations(i).image_id for i in range(4)] == [3, 14, 15, 159]


def test_labels_are_positions_among_a_models_classes(config, coco):
    source = open_detection(config, "eval", ("ant", "zebra", "dog", "cat")).source
    assert source.category_ids == (None, 90, 21, 7)
    assert source.annotations(0).labels.tolist() == [3, 1, 2]
    with pytest.raises(DataError, match=r"json: cat, zebra is none of the model's classes; .* dog"):
        open_detection(config, "eval", ("ant", "dog"))
    # Evaluation without a model uses the classes of the training data.
    rewrite(coco, lambda c: c["categories"].pop(1), "val2017")
    rewrite(coco, lambda c: c["annotations"].pop(1), "val2017")
    held_out = open_detection(config, "eval").source
    assert held_out.class_names == ("cat", "dog", "zebra")
    assert held_out.category_ids == (None, 21, 90)


def test_masks_of_every_form_are_given(config):
    dataset = open_detection(replace(config, masks=True), "eval")
    for batch in eval_batches(dataset, 1):
        for valid, box, mask in zip(
            batch["box_valid"][0], batch["boxes"][0], batch["masks"][0], strict=True
        ):
            assert mask.any() == valid
            if valid:
                rows, columns = np.nonzero(mask)
                extent = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                np.testing.assert_allclose(box, extent, atol=0.75)
    crowd = dataset.source.annotations(0)
    assert crowd.masks.areas()[crowd.crowd].tolist() == [60 * 80]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_are_pycocotools(config, coco):
    official = COCO(str(coco / "annotations" / "instances_val2017.json"))
    source = open_detection(replace(config, masks=True), "eval").source
    for index in range(len(source)):
        found = source.annotations(index)
        theirs = official.loadAnns(official.getAnnIds([found.image_id]))
        expected = [official.annToMask(annotation) for annotation in theirs]
        assert len(found) == len(expected)
        for mask, other in zip(found.masks.to_arrays(), expected, strict=True):
            np.testing.assert_array_equal(mask, other)


def test_slices_of_the_images(config):
    parts = [
        open_detection(replace(config, train_split=f"train2017{part}"), "train").source
        for part in ("[:50%]", "[50%:]")
    ]
    ids = [[part.annotations(i).image_id for i in range(len(part))] for part in parts]
    assert sorted(ids[0] + ids[1]) == [3, 14, 15, 159]
    whole = open_detection(config, "train").source
    for part in parts:
        for i in range(len(part)):
            found = part.annotations(i)
            same = whole.annotations([3, 14, 15, 159].index(found.image_id))
            np.testing.assert_array_equal(found.boxes_xywh, same.boxes_xywh)
            assert part[i]["name"].endswith(f"train2017/{found.image_id}.png")


def test_ones_own_files(config, coco):
    named = replace(
        config,
        train_annotations="annotations/instances_train2017.json",
        train_images=str(coco / "val2017"),
        train_split="anything",
    )
    source = open_detection(named, "train").source
    assert source[0]["name"] == str(coco / "val2017" / "3.png")
    with pytest.raises(DataError, match=r"data\.train_images is x, but must be none unless"):
        open_detection(DetectionData(train_images="x"), "train")


def change(**fields):
    """Changes the second annotation."""
    return lambda content: content["annotations"][1].update(fields)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("images"), r"not a COCO annotation file: .*`images`"),
        (lambda c: c["annotations"][1].pop("bbox"), r"`bbox` - at `\$\.annotations\[1\]`"),
        (lambda c: c["images"][0].pop("height"), r"`height` - at `\$\.images\[0\]`"),
        (lambda c: c["images"][0].update(id=3), r"id given twice: images\[3\] \(id 3, file_name 3"),
        (lambda c: c["images"][0].update(id="a"), r"some image ids are numbers, some are text"),
        (lambda c: c["images"][0].update(width=0), r"height or width is not positive: images\[0\]"),
        (lambda c: c["categories"][0].update(id=7), r"id given twice: categories\[1\] \(id 7"),
        (
            lambda c: c["categories"][0].update(name="cat"),
            r"several categories have the name 'cat'",
        ),
        (lambda c: c.update(categories=[]), r"has no categories"),
        (
            change(image_id=4),
            r"image_id is none of the images: annotations\[1\] \(id 101, image_id 4",
        ),
        (change(category_id=1), r"category_id is none of the categories: .* category_id 1, bbox"),
        (change(bbox=[1, 2, 3]), r"bbox: not 4 numbers: annotations\[1\]"),
        (
            change(bbox=[1, 2, -3, 4]),
            r"bbox of negative width or height: annotations\[1\] \(id 101",
        ),
        (
            change(bbox=[1, 2, float("nan"), 4]),
            r"bbox: numbers that are not finite: annotations\[1\]",
        ),
        (change(area=-1), r"area is negative or not finite: annotations\[1\]"),
    ],
)
def test_wrong_annotations_are_one_line_that_names_them(edit, message, config, coco):
    rewrite(coco, edit)
    with pytest.raises(DataError, match=message) as caught:
        open_detection(config, "train")
    assert str(caught.value).startswith(f"{coco}/annotations/instances_train2017.json: ")
    assert "\n" not in str(caught.value)


def test_missing_files(config, coco):
    with pytest.raises(DataError, match=r"instances_nope\.json: cannot be read: No such file"):
        open_detection(replace(config, train_split="nope"), "train")
    with pytest.raises(DataError, match=r"nope: no such folder, for the images of .*train2017"):
        open_detection(replace(config, train_images="nope"), "train")
    (coco / "annotations" / "instances_train2017.json").write_text("not json")
    with pytest.raises(DataError, match=r"train2017\.json: not a COCO annotation file: Expecting"):
        open_detection(config, "train")
    with pytest.raises(DataError, match=r"unknown data 'cocoo'.*digit_scenes, coco:DIR"):
        open_detection(DetectionData(source="cocoo"), "train")


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "image 3: the segmentation of its object 0: polygons need at least 3 points"),
        ([[1, 2, 3, 4]], "image 3: the segmentation of its object 0: polygons need"),
        ({"size": [60, 80], "counts": [3, 4]}, "runs cover 7 pixels of an image of 60 x 80"),
        ({"size": [5, 5], "counts": [5, 20]}, "is of another size than the image, 60 x 80"),
        ([[0, 0, 1, 1, float("inf"), 2]], "NaN or Infinity in it"),
        ("text", r"image 3: segmentation: Expected"),
    ],
)
def test_wrong_masks_are_named(segmentation, message, config, coco):
    rewrite(coco, change(segmentation=segmentation))
    with pytest.raises(DataError, match=message):
        open_detection(replace(config, masks=True), "train").source.annotations(0)
    # Without masks, the segmentation is not read.
    assert len(open_detection(config, "train").source.annotations(0)) == 3


def test_boxes_outside_are_warned_of(config, coco, caplog):
    rewrite(coco, change(bbox=[80, 2, 10, 10]))
    with caplog.at_level(logging.WARNING):
        dataset = open_detection(config, "train")
    assert "1 boxes have no area inside their image" in caplog.text
    assert "annotations[1] (id 101, image_id 3" in caplog.text
    assert len(dataset.source.annotations(0)) == 3
    example = dataset.transform(dataset.source[0], np.random.default_rng(0))
    assert example["box_valid"].sum() == 1


def test_area_and_crowd_may_be_absent(config, coco):
    rewrite(coco, lambda c: [a.pop(key) for a in c["annotations"] for key in ("area", "iscrowd")])
    found = open_detection(config, "train").source.annotations(0)
    assert found.areas.tolist() == [750.0, 4800.0, 310.0]
    assert not found.crowd.any()
