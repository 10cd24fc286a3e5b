from pathlib import Path

import numpy as np
import pytest
import scipy.special

from zoo.ops.panoptic import merge_masks

GOLDEN = Path(__file__).parents[2] / "golden" / "fair_panoptic.npz"
THINGS = {0}


def of_areas(*areas):
    """Mask logits of one row of pixels, in which each mask has the given number of pixels."""
    bounds = np.cumsum((0, *areas))
    columns = np.arange(bounds[-1])
    inside = (columns >= bounds[:-1, None]) & (columns < bounds[1:, None])
    return np.where(inside, 9.0, -9.0 - np.arange(len(areas))[:, None])[:, None]


def merge(logits, labels, scores=None, **how):
    scores = np.full(len(labels), 0.9) if scores is None else np.array(scores)
    size = logits.shape[1:]
    return merge_masks(logits, np.array(labels, int), scores, THINGS, size, size, size, **how)


@pytest.mark.parametrize("image", range(4))
def test_segments_are_those_of_detrs_authors(image):
    golden = np.load(GOLDEN)
    probabilities = scipy.special.softmax(golden["logits"][image], axis=-1)[:, :-1]
    height, width = golden["size"].tolist()
    rows, columns = golden["original_sizes"][image].tolist()
    found = merge_masks(
        golden["masks"][image],
        probabilities.argmax(-1),
        probabilities.max(-1),
        set(golden["things"].tolist()),
        (height, width),
        (height, width),
        (rows, columns),
    )
    if golden[f"labels/{image}"].size:  # their ids start at 0, and no segment is a thing of class 1
        np.testing.assert_array_equal(found.ids - 1, golden[f"ids/{image}"])
        np.testing.assert_array_equal(found.labels, golden[f"labels/{image}"])
    else:
        assert not golden[f"ids/{image}"].any() and not found.ids.any() and not found.labels.size


def test_the_golden_has_stuff_to_merge_masks_to_drop_and_an_image_with_nothing():
    golden = np.load(GOLDEN)
    classes = golden["logits"].argmax(-1)
    likely = scipy.special.softmax(golden["logits"], axis=-1).max(-1) > 0.85
    given = [classes[i][likely[i] & (classes[i] < 4)].tolist() for i in range(4)]
    assert any(given[0].count(label) > 1 for label in (2, 3))
    assert given[3] == [] and len(golden["labels/0"]) < len(given[0])
    assert len(golden["labels/1"]) > 2


def test_things_of_a_class_stay_apart_and_stuff_becomes_one():
    found = merge(of_areas(6, 7, 8), [0, 0, 3])
    np.testing.assert_array_equal(np.bincount(found.ids.ravel()), [0, 6, 7, 8])
    np.testing.assert_array_equal(found.labels, [0, 0, 3])
    found = merge(of_areas(6, 7, 8), [3, 0, 3])
    np.testing.assert_array_equal(np.unique(found.ids), [1, 2])
    np.testing.assert_array_equal(found.labels, [3, 0])


def test_small_masks_leave_their_pixels_to_the_others():
    found = merge(of_areas(6, 4, 8), [0, 0, 3], [0.9, 0.99, 0.95])
    np.testing.assert_array_equal(found.ids.ravel(), [1] * 10 + [2] * 8)
    np.testing.assert_array_equal(found.scores, [0.9, 0.95])
    assert len(merge(of_areas(6, 4, 8), [0, 0, 3], least_area=4).labels) == 3


def test_unlikely_masks_own_nothing():
    found = merge(of_areas(6, 7), [0, 3], [0.9, 0.85])
    np.testing.assert_array_equal(found.ids, np.ones((1, 13)))
    np.testing.assert_array_equal(
        merge(of_areas(6, 7), [0, 3], [0.9, 0.85], threshold=0.8).labels, [0, 3]
    )


def test_nothing_found_is_a_map_of_zeros():
    for logits, scores in ((np.zeros((0, 8, 8)), []), (np.zeros((1, 8, 8)), [0.1])):
        found = merge_masks(
            logits,
            np.zeros(len(scores), int),
            np.array(scores),
            THINGS,
            (32, 32),
            (30, 32),
            (20, 30),
        )
        np.testing.assert_array_equal(found.ids, np.zeros((20, 30)))
        assert found.labels.shape == found.scores.shape == (0,)


def test_padding_is_cut_off():
    logits = of_areas(6, 6).repeat(12, axis=1)
    found = merge_masks(
        logits, np.array([0, 0]), np.array([0.9, 0.9]), THINGS, (48, 48), (48, 20), (24, 10)
    )
    assert found.labels.tolist() == [0]  # all pixels of the second mask are padding
    np.testing.assert_array_equal(found.ids, np.ones((24, 10)))
