"""COCO's keypoints as training data: names, numbers, and wrong files."""

import dataclasses
import json

import numpy as np
import pytest

from tests.zoo.data.coco_folder import annotations
from zoo.data import DataError, DetectionData, eval_batches, open_detection, train_batches
from zoo.data.annotations import Joints

NAMES = ["nose", "left_eye", "right_eye"]


def with_keypoints():
    """Three joints for each object: two corners of its box and its centre; visibility 2, 1, 0."""
    content = annotations()
    for record in content["annotations"]:
        x, y, width, height = record["bbox"]
        record["keypoints"] = [x, y, 2, x + width, y + height, 1, 5, 6, 0]
        record["num_keypoints"] = 2
    for category in content["categories"]:
        category |= {"keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}
    return content


@pytest.fixture
def poses(coco):
    for split in ("train2017", "val2017"):
        path = coco / "annotations" / f"person_keypoints_{split}.json"
        path.write_text(json.dumps(with_keypoints()))
    return coco


@pytest.fixture
def data(config, poses):
    return dataclasses.replace(config, keypoints=True)


def edit(poses, change):
    path = poses / "annotations" / "person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_the_source_names_the_joints(data):
    source = open_detection(data, "train").source
    assert source.joints == Joints(tuple(NAMES), ((0, 1), (0, 2)))
    assert source.joints.mirrored.tolist() == [0, 2, 1]
    found = source.annotations(0)
    assert found.keypoints.shape == (3, 3, 3)
    np.testing.assert_array_equal(found.keypoints[0], [[10, 20, 2], [40, 45, 1], [5, 6, 0]])
    half = open_detection(dataclasses.replace(data, train_split="train2017[:50%]"), "train").source
    for index in range(len(half)):
        one = half.annotations(index)
        np.testing.assert_array_equal(one.keypoints[:, 0, :2], one.boxes_xywh[:, :2])


def test_examples_have_them_padded(data):
    for batch in eval_batches(open_detection(data, "eval"), 2):
        keypoints, valid = batch["keypoints"], batch["box_valid"]
        assert keypoints.shape == (*valid.shape, 3, 3) and keypoints.dtype == np.float32
        assert not keypoints[~valid].any()
        np.testing.assert_array_equal(keypoints[valid][:, 0, :2], batch["boxes"][valid][:, :2])
        np.testing.assert_array_equal(keypoints[valid][:, 1, :2], batch["boxes"][valid][:, 2:])
        np.testing.assert_array_equal(keypoints[valid][:, :, 2], [[2, 1, 0]] * valid.sum())
        assert not keypoints[..., 2, :].any()  # not labelled: x and y are 0


def test_augmented_keypoints_move_with_their_boxes(data):
    """Joints stay at the corners of their boxes, unless a crop removes them."""
    data = dataclasses.replace(
        data,
        short_sides=(40, 56),
        long_side=96,
        random_crop=True,
        flip=True,
        buckets=((64, 96), (96, 64)),
    )
    batches = train_batches(open_detection(data, "train"), 4, seed=0)
    seen = set()
    for _ in range(20):
        batch = next(batches)
        valid = batch["box_valid"]
        for box, (first, second, third) in zip(
            batch["boxes"][valid], batch["keypoints"][valid], strict=True
        ):
            # The third joint is not labelled, unless a flip swaps it with the second one.
            flipped = third[2] > 0 or (second[2] == 0 and third[2] == 0 and first[2] == 0)
            other = third if third[2] else second
            if first[2] and other[2]:
                sides = box[[2, 1, 0, 3]] if flipped else box
                np.testing.assert_allclose(np.concatenate([first[:2], other[:2]]), sides, atol=0.01)
            seen.add((int(first[2]), int(other[2]), bool(third[2])))
    assert {(2, 1, True), (2, 1, False)} <= seen
    assert any(0 in case[:2] for case in seen)  # a joint was cropped away


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["annotations"][1].pop("keypoints"),
            r"`keypoints` - at `\$\.annotations\[1\]`",
        ),
        (
            lambda c: c["annotations"][1].update(keypoints=[1, 2, 2]),
            r"keypoints: not 9 numbers: annotations\[1\]",
        ),
        (
            lambda c: c["annotations"][1]["keypoints"].__setitem__(2, 3),
            r"keypoints: a visibility is not 0, 1 or 2: annotations\[1\]",
        ),
        (
            lambda c: c["annotations"][1]["keypoints"].__setitem__(0, float("inf")),
            r"keypoints: numbers that are not finite: annotations\[1\]",
        ),
        (
            lambda c: c["categories"][0].update(keypoints=["nose", "mouth", "chin"]),
            r"categories 'cat' and 'zebra' have different joints",
        ),
        (
            lambda c: [k.update(keypoints=["nose", "nose", "chin"]) for k in c["categories"]],
            r"category 'cat': several joints have one name",
        ),
        (
            lambda c: [k.update(skeleton=[[0, 1]]) for k in c["categories"]],
            r"category 'cat': a bone of its skeleton has no joint",
        ),
    ],
)
def test_what_cannot_be_is_one_line(data, poses, change, message):
    edit(poses, change)
    with pytest.raises(DataError, match=message) as caught:
        open_detection(data, "train")
    assert "\n" not in str(caught.value)


def test_joints_without_names_or_counterparts_cannot_be_mirrored(data, poses):
    edit(poses, lambda c: [k.pop("keypoints") for k in c["categories"]])
    assert open_detection(data, "train").source.joints.names == ("0", "1", "2")
    flipped = dataclasses.replace(data, flip=True)
    with pytest.raises(DataError, match=r"data\.flip: coco:.* does not name its joints"):
        open_detection(flipped, "train")
    names = ["nose", "left_eye", "chin"]
    edit(poses, lambda c: [k.update(keypoints=names) for k in c["categories"]])
    with pytest.raises(DataError, match="joint 'left_eye' has no counterpart 'right_eye'"):
        open_detection(flipped, "train")


def test_other_data_have_none():
    with pytest.raises(DataError, match=r"data\.keypoints is True, but must be false unless"):
        open_detection(DetectionData(keypoints=True), "train")


def test_evaluation_takes_them_from_the_same_place(data):
    from eval.detectors import ground_truth

    examples = open_detection(data, "eval")
    rows = ground_truth(examples, 0)
    np.testing.assert_array_equal(rows.keypoints, examples.source.annotations(0).keypoints)
