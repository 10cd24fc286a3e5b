import numpy as np
import pytest

from zoo.data import DataError
from zoo.data.digit_scenes import LENGTHS, MIN_VISIBLE, SIZE, draw_scene, open_digit_scenes
from zoo.data.digits import scans, split_indices


@pytest.fixture(scope="module")
def scenes():
    source = open_digit_scenes("train")
    return [source[index] for index in range(300)]


def test_scenes_are_functions_of_split_and_index():
    train, test = open_digit_scenes("train"), open_digit_scenes("test")
    assert (len(train), len(test)) == (LENGTHS["train"], LENGTHS["test"]) == (20_000, 500)
    for key, value in train[7].items():
        np.testing.assert_array_equal(value, open_digit_scenes("train[:8]")[7][key])
    assert not np.array_equal(train[7]["image"], test[7]["image"])
    assert train[7]["name"] == "digit_scenes train[7]"


def test_the_digits_of_a_scene_are_fixed():
    """The scenes must not change between versions, so that scores can be compared."""
    labels = [open_digit_scenes("test")[index]["labels"].tolist() for index in range(4)]
    assert labels == [[9, 0, 8, 0], [2, 8], [6, 2, 2], [6]]


def test_boxes_enclose_the_visible_ink(scenes):
    for scene in scenes:
        for box, mask in zip(scene["boxes"], scene["masks"], strict=True):
            rows, columns = np.nonzero(mask)
            extent = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert tuple(box) == extent


def test_masks_are_disjoint_and_the_semantic_mask_is_their_union(scenes):
    for scene in scenes:
        assert scene["masks"].sum(0).max() == 1
        expected = np.zeros((SIZE, SIZE), np.uint8)
        for label, mask in zip(scene["labels"], scene["masks"], strict=True):
            expected[mask] = label + 1
        np.testing.assert_array_equal(scene["semantic"], expected)


def test_counts_sizes_and_labels_are_spread(scenes):
    counts = np.bincount([len(scene["labels"]) for scene in scenes], minlength=7)
    assert counts[0] == 0 and counts[1:].min() >= 25 and len(counts) == 7
    labels = np.bincount(np.concatenate([scene["labels"] for scene in scenes]), minlength=10)
    assert labels.min() >= 60
    heights = np.concatenate([scene["boxes"] for scene in scenes])
    heights = heights[:, 3] - heights[:, 1]
    assert heights.max() <= 29
    assert np.percentile(heights, 5) >= 10


def test_digits_stand_out_from_the_ground(scenes):
    """The gray level of a digit differs from the background around it."""
    contrasts = []
    for scene in scenes:
        if len(scene["labels"]) == 1:
            x0, y0, x1, y1 = scene["boxes"][0].astype(int)
            part, mask = scene["image"][y0:y1, x0:x1].mean(2), scene["masks"][0][y0:y1, x0:x1]
            contrasts.append(abs(part[mask].mean() - part[~mask].mean()))
    assert min(contrasts) > 15
    assert np.median(contrasts) > 50


def test_hidden_digits_stay_visible_enough(monkeypatch, scenes):
    """In scenes that are drawn without this rule, some digits have fewer visible pixels."""
    before = [len(scene["labels"]) for scene in scenes]
    monkeypatch.setattr("zoo.data.digit_scenes.MIN_VISIBLE", 0.0)
    areas = [mask.sum() for index in range(300) for mask in draw_scene("train", index).masks]
    assert MIN_VISIBLE == 0.4
    assert min(areas) < 12 < min(mask.sum() for scene in scenes for mask in scene["masks"])
    assert sum(before) / 300 == pytest.approx(3.5, abs=0.2)


def test_train_and_test_have_no_scan_in_common():
    train, test = split_indices()["train"], split_indices()["test"]
    assert (len(train), len(test)) == (1257, 540)
    assert not set(train) & set(test)
    assert len(scans()[0]) == 1797


@pytest.mark.parametrize("split", ["val", "train[90%:]", "train[:10", "train[:-3]", ""])
def test_unknown_splits(split):
    with pytest.raises(DataError, match="there are train, test, and beginnings such as train"):
        open_digit_scenes(split)


def test_beyond_the_end():
    with pytest.raises(IndexError, match="no scene 500 of 500"):
        open_digit_scenes("test")[500]
