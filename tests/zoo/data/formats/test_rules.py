"""Training and evaluation read the same columns of the same files, with different rules."""

import json

import numpy as np
import pytest

from eval.files import read_coco
from tests.eval import generate
from tests.zoo.data.coco_folder import annotations
from zoo.data import DataError
from zoo.data.formats.coco import decode_masks, read_annotations


@pytest.fixture
def path(tmp_path):
    return tmp_path / "annotations.json"


def write(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("seed", range(4))
def test_both_read_the_same_columns(path, seed):
    dataset, _ = generate.awkward(seed, "keypoints")
    write(path, dataset)
    trained = read_annotations(path, keypoints=True)
    evaluated = read_coco(path, "keypoints")
    ids = np.array([category.id for category in trained.categories])
    np.testing.assert_array_equal(evaluated.objects.boxes_xywh, trained.table.boxes_xywh)
    np.testing.assert_array_equal(evaluated.objects.keypoints, trained.table.keypoints)
    np.testing.assert_array_equal(evaluated.objects.categories, ids[trained.table.labels])
    np.testing.assert_array_equal(evaluated.objects.crowd, trained.table.crowd)
    counts = [a["num_keypoints"] for a in dataset["annotations"]]
    assert sorted(trained.num_keypoints.tolist()) == sorted(counts)
    owners = np.repeat(np.arange(len(trained.images)), np.diff(trained.table.offsets))
    np.testing.assert_array_equal(evaluated.objects.images, owners)


def test_objects_are_sorted_by_image_and_keep_their_order_there(path):
    file = read_annotations(write(path, annotations()), "coco")
    assert file.table.image_ids == [3, 14, 15, 159]
    assert file.table.offsets.tolist() == [0, 3, 4, 4, 5]
    assert file.table.boxes_xywh[:3].tolist() == [
        [10, 20, 30, 25],
        [0, 0, 80, 60],
        [40.5, 5.25, 20, 15.5],
    ]
    assert file.table.labels.tolist() == [0, 2, 1, 1, 2]


def test_masks_are_decoded_at_once_or_when_asked_for(path):
    write(path, annotations())
    whole = read_annotations(path, "coco", masks="decoded").masks
    encoded = read_annotations(path, masks="encoded")
    for image in range(4):
        rows, size = encoded.table.rows(image), encoded.table.sizes[image]
        one = decode_masks(encoded.segmentations[rows], size, "here")
        expected = whole.take(np.arange(rows.start, rows.stop))
        for mask, other in zip(one.to_arrays(), expected.to_arrays(), strict=True):
            np.testing.assert_array_equal(mask, other)
    assert whole.areas()[0] == 30 * 25


@pytest.mark.parametrize(
    ("change", "refused", "passed_over"),
    [
        (
            {"image_id": 4},
            r"image_id is none of the images: annotations\[1\]",
            "ignored 1 annotations of unknown image, first image_id 4",
        ),
        (
            {"category_id": 1},
            r"category_id is none of the categories: annotations\[1\]",
            "ignored 1 annotations of unknown category, first category_id 1",
        ),
    ],
)
def test_training_refuses_what_evaluation_passes_over(path, change, refused, passed_over):
    content = annotations()
    content["annotations"][1] |= change
    write(path, content)
    with pytest.raises(DataError, match=refused):
        read_annotations(path)
    truth = read_coco(path, "bbox")
    assert len(truth.objects) == 4
    assert truth.warnings == [f"{path}: {passed_over}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("id"), "missing required field `id`"),
        (lambda a: a.pop("area"), "missing required field `area`"),
        (lambda a: a.update(id=100), r"id given twice: annotations\[1\] \(id 100"),
    ],
)
def test_evaluation_refuses_what_training_does_without(path, change, message):
    content = annotations()
    change(content["annotations"][1])
    write(path, content)
    assert len(read_annotations(path).table.labels) == 5
    with pytest.raises(DataError, match=message):
        read_coco(path, "bbox")


def test_what_lvis_marks_is_difficult_and_its_crowds_are_objects(path):
    content = annotations()
    content["annotations"][0]["ignore"] = 1
    write(path, content)
    coco, lvis = (read_coco(path, "bbox", rules).objects for rules in ("coco", "lvis"))
    assert (coco.crowd.sum(), coco.ignored.sum()) == (1, 1)
    assert (lvis.crowd.sum(), lvis.ignored.tolist()) == (0, [False] * 4 + [True])
