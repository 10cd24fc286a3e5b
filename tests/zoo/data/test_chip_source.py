import dataclasses
import json
from types import SimpleNamespace

import cv2
import msgspec
import numpy as np
import pytest

from zoo.data import DataError, DetectionData, eval_batches, open_detection, train_batches
from zoo.data.annotations import Annotations
from zoo.data.chip_source import ChipSource
from zoo.data.chips import ChipRule, ChipScale
from zoo.data.digit_scenes import draw_scene

SCALES = (
    ChipScale(factor=2.0, largest=16.0, min_proposals=2),
    ChipScale(long_side=32, smallest=14.0, min_proposals=1),
)
DATA = DetectionData(
    train_split="train[:30]",
    eval_split="test[:3]",
    chips=SCALES,
    chip_side=32,
    chip_stride=4,
    masks=True,
    threads=0,
)


@pytest.fixture(scope="module")
def chips():
    return open_detection(DATA, "train")


def test_chips_of_scenes_are_what_a_second_computation_gives(chips):
    source, seen = chips.source, set()
    assert len(source) > 45 and set(source.scales.tolist()) == {0, 1}
    for index in range(len(source)):
        scene = draw_scene("train", int(source.images[index]))
        left, top, right, bottom = source.windows[index].tolist()
        factor = 2.0 if source.scales[index] == 0 else 0.5
        example = chips.transform(source[index], np.random.default_rng(0))
        pixels = cv2.resize(scene.image[top:bottom, left:right], (32, 32))
        np.testing.assert_array_equal(example["image"], pixels)
        wanted = []
        for box, label, mask in zip(scene.boxes, scene.labels, scene.masks, strict=True):
            x0, y0, x1, y1 = box.tolist()
            if x1 <= left or x0 >= right or y1 <= top or y0 >= bottom:
                continue
            size = ((x1 - x0) * (y1 - y0)) ** 0.5
            fits = size < 16 if source.scales[index] == 0 else size >= 14
            whole = left <= x0 and top <= y0 and x1 <= right and y1 <= bottom
            box = [
                max(x0, left) - left,
                max(y0, top) - top,
                min(x1, right) - left,
                min(y1, bottom) - top,
            ]
            part = np.float32(mask[top:bottom, left:right])
            wanted.append((not (fits and whole), [v * factor for v in box], label, part))
            seen.add((fits, whole))
        wanted.sort(key=lambda one: one[0])
        count = len(wanted)
        assert count == source.target_counts[index] > 0
        ignored, boxes, labels, masks = zip(*wanted, strict=True)
        np.testing.assert_array_equal(example["box_ignored"], [*ignored] + [False] * (6 - count))
        expected = [not one for one in ignored] + [False] * (6 - count)
        np.testing.assert_array_equal(example["box_valid"], expected)
        assert example["box_valid"].any()  # a chip is there for an object
        np.testing.assert_allclose(example["boxes"][:count], boxes, atol=1e-5)
        np.testing.assert_array_equal(example["labels"][:count], labels)
        for one, mask in zip(example["masks"], masks, strict=False):
            areas = cv2.resize(mask, (32, 32), interpolation=cv2.INTER_AREA)
            assert abs(one.sum() - areas.sum()) <= 0.25 * areas.sum() + 6
            if factor == 2.0:
                np.testing.assert_array_equal(one, mask.repeat(2, axis=0).repeat(2, axis=1))
    assert seen == {(True, True), (True, False), (False, True), (False, False)}


def test_batches_of_chips_and_evaluation_as_without(chips):
    batch = next(train_batches(chips, 4, seed=0))
    assert batch["image"].shape == (4, 32, 32, 3)
    assert batch["box_ignored"].shape == (4, 6)
    assert chips.groups is None and chips.source.sizes.shape == (len(chips), 2)
    again = open_detection(DATA, "train").source
    np.testing.assert_array_equal(again.windows, chips.source.windows)
    plain = dataclasses.replace(DATA, chips=())
    ours, theirs = (
        next(iter(eval_batches(open_detection(data, "eval"), 3))) for data in (DATA, plain)
    )
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name])
    text = json.dumps(dataclasses.asdict(DATA))
    assert msgspec.json.decode(text, type=DetectionData) == DATA


def test_proposals_give_chips_of_images_without_objects(chips, tmp_path):
    """And none for what the positive chips have."""
    rng = np.random.default_rng(0)
    results = [
        {
            "image_id": i,
            "category_id": 1,
            "score": 0.5,
            "bbox": [*rng.uniform(0, 50, 2).tolist(), 8, 9],
        }
        for i in range(30)
        for _ in range(12)
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    data = dataclasses.replace(DATA, chip_proposals=str(path), chip_negatives=1)
    found = open_detection(data, "train").source
    more = len(found) - len(chips)
    assert 20 <= more <= 30
    assert np.isin(chips.source.windows, found.windows).all()
    path.write_text(json.dumps([{**results[0], "image_id": 999}]))
    with pytest.raises(DataError, match="proposals for none of the images"):
        open_detection(data, "train")


def test_keypoints_of_chips():
    """Two joints are in the chip, one at its corner; one is outside, one is not labelled."""
    joints = [[12.0, 21, 2], [10, 20, 1], [45, 25, 2], [0, 0, 0]]
    boxes = np.array([[11.0, 20, 10, 8], [5, 15, 60, 60], [90, 90, 5, 5]])
    found = Annotations(
        7,
        (100, 120),
        boxes,
        np.arange(3, dtype=np.int32),
        boxes[:, 2:].prod(axis=1),
        np.zeros(3, bool),
        np.zeros(3, bool),
        keypoints=np.array([joints] * 3),
        num_keypoints=np.array([3] * 3),
    )
    source = SimpleNamespace(annotations=lambda index: found, sizes=np.array([[100, 120]]))
    number = np.array([0])
    chips = ChipSource(
        source,
        ChipRule((ChipScale(factor=2.0, largest=20.0),), side=64),
        images=number,
        windows=np.array([[10, 20, 42, 52]]),
        scales=number,
        sizes=np.array([[64, 64]]),
        target_counts=np.array([2]),
    )
    cut = chips.annotations(0)
    np.testing.assert_array_equal(cut.keypoints[0], [[4, 2, 2], [0, 0, 1], [0, 0, 0], [0, 0, 0]])
    assert cut.num_keypoints.tolist() == [2, 2] and cut.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(cut.boxes, [[2, 0, 22, 16], [0, 0, 64, 64]])
    assert cut.ignored.tolist() == [False, True] and cut.targets.tolist() == [True, False]
    assert (cut.size, cut.image_id) == ((64, 64), 7)
    np.testing.assert_allclose(cut.areas, [320, 14400])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chips": (ChipScale(),)}, r"data\.chips is .* but must be scales"),
        ({"chips": (), "chip_proposals": "x"}, r"data\.chip_proposals is x, but must be none"),
        ({"chip_side": 0}, r"data\.chip_side is 0"),
        ({"chips": (ChipScale(factor=2.0, smallest=900.0),)}, "no object has a size"),
    ],
)
def test_impossible_chips_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        open_detection(dataclasses.replace(DATA, **change), "train")
