"""Chips against definitions that are written anew, with sets and loops."""

import numpy as np
import pytest

from zoo.data.chips import SNIPER_SCALES, ChipRule, ChipScale, contain, greedy_cover

SMALL = ChipRule(
    (
        ChipScale(factor=2.0, largest=12.0, min_proposals=3),
        ChipScale(factor=1.1, smallest=8.0, largest=20.0, min_proposals=2),
        ChipScale(long_side=32, smallest=16.0, min_proposals=1),
    ),
    side=32,
    stride=4,
    negatives=3,
)


def draw(rng, size, count, sides=(3, 40)):
    sides = rng.uniform(*sides, (count, 2))
    low = rng.uniform(0, 1, (count, 2)) * np.maximum(np.array(size[::-1]) - sides, 0)
    return np.concatenate([low, np.minimum(low + sides, size[::-1])], axis=1)


def test_the_papers_windows():
    """480 x 640 pixels: at factor 3, 171 pixels, 32/3 apart; the image as a whole at 512."""
    rule, (fine, middle, coarse) = ChipRule(), SNIPER_SCALES
    windows = rule.windows((480, 640), fine)
    sides = windows[:, 2:] - windows[:, :2]
    assert (sides == round(512 / 3)).all()
    assert windows.min() == 0 and windows.max(axis=0).tolist() == [640 - 171, 480 - 171, 640, 480]
    lefts = np.unique(windows[:, 0])
    assert set(np.diff(lefts)[:-1].tolist()) == {10, 11} and 0 < np.diff(lefts)[-1] <= 11
    assert (rule.chip_size((480, 640), windows, fine) == 512).all()
    assert (
        rule.windows((480, 640), middle)[:, 2:] - rule.windows((480, 640), middle)[:, :2] == 307
    ).all()
    whole = rule.windows((480, 640), coarse)
    assert whole.tolist() == [[0, 0, 640, 480]]
    assert rule.chip_size((480, 640), whole, coarse).tolist() == [[384, 512]]


@pytest.mark.parametrize("size", [(48, 80), (64, 64), (10, 90), (7, 5)])
def test_a_grid_has_no_gaps(size):
    for scale in SMALL.scales:
        windows = SMALL.windows(size, scale)
        seen = np.zeros(size, int)
        for left, top, right, bottom in windows:
            seen[top:bottom, left:right] += 1
        assert seen.min() >= 1
        assert (windows[:, 2:] <= size[::-1]).all() and (windows[:, :2] >= 0).all()
        assert len(np.unique(windows, axis=0)) == len(windows)
        sizes = SMALL.chip_size(size, windows, scale)
        assert sizes.max() <= 32 and sizes.min() >= 1
        # The enlargement is that of the scale, but for rounding to whole pixels.
        extents = (windows[:, 2:] - windows[:, :2])[:, ::-1]
        assert (abs(sizes - extents * scale.of(size)) <= 0.5 + 0.5 * scale.of(size)).all()


def sets_of(windows, boxes):
    return [
        {
            n
            for n, (x0, y0, x1, y1) in enumerate(boxes.tolist())
            if left <= x0 and top <= y0 and x1 <= right and y1 <= bottom
        }
        for left, top, right, bottom in windows.tolist()
    ]


@pytest.mark.parametrize("seed", range(6))
def test_the_cover_is_greedy_and_whole(seed):
    rng = np.random.default_rng(seed)
    size = (70, 110)
    boxes = draw(rng, size, 25)
    scale = SMALL.scales[seed % 3]
    windows = SMALL.windows(size, scale)
    holds, found = contain(windows, boxes), sets_of(windows, boxes)
    np.testing.assert_array_equal(holds, [[n in one for n in range(25)] for one in found])
    chosen, counts = greedy_cover(holds, 1, rng)
    missing = set().union(*found)
    for window, count in zip(chosen, counts, strict=True):
        assert count == len(found[window] & missing) == max(len(one & missing) for one in found)
        missing -= found[window]
    assert not missing and chosen
    few, _ = greedy_cover(holds, 3, np.random.default_rng(0))
    left = set().union(*found).difference(*(found[window] for window in few))
    assert max(len(one & left) for one in found) < 3


def test_which_of_the_best_windows_is_taken_is_drawn():
    holds = np.ones((50, 1), bool)
    taken = {greedy_cover(holds, 1, np.random.default_rng(seed))[0][0] for seed in range(30)}
    assert len(taken) > 15
    assert greedy_cover(np.zeros((4, 0), bool), 1, np.random.default_rng(0)) == ([], [])


@pytest.mark.parametrize("seed", range(4))
def test_every_object_of_a_scale_is_in_one_of_its_chips(seed):
    rng = np.random.default_rng(seed)
    size = (60, 100)
    boxes = draw(rng, size, 12, (3, 24))
    windows, scales = SMALL.cut(size, boxes, None, np.random.default_rng(seed))
    checked = 0
    for box, side in zip(boxes, np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)), strict=True):
        for number, (low, high) in enumerate([(0, 12), (8, 20), (16, np.inf)]):
            grid = SMALL.windows(size, SMALL.scales[number])
            if low <= side < high and contain(grid, box[None]).any():
                assert contain(windows[scales == number], box[None]).any()
                checked += 1
    assert checked >= 12
    again = SMALL.cut(size, boxes, None, np.random.default_rng(seed))
    np.testing.assert_array_equal(windows, again[0])
    # Each chip has an object of its scale.
    for window, number in zip(windows, scales, strict=True):
        assert contain(window[None], boxes[SMALL.scales[number].has(boxes)]).any()


def test_negative_chips_have_enough_proposals_that_no_positive_chip_has():
    rng = np.random.default_rng(0)
    size = (60, 100)
    boxes, proposals = draw(rng, size, 2, (5, 9)), draw(rng, size, 60, (3, 30))
    positive, _ = SMALL.cut(size, boxes, None, np.random.default_rng(3))
    windows, scales = SMALL.cut(size, boxes, proposals, np.random.default_rng(3))
    count = len(positive)
    assert len(windows) == count + 3
    further = []
    for window, number in zip(windows[count:], scales[count:], strict=True):
        scale = SMALL.scales[number]
        rest = proposals[scale.has(proposals)]
        taken = contain(windows[:count][scales[:count] == number], rest).any(axis=0)
        further.append(contain(window[None], rest[~taken]).sum())
        assert further[-1] >= scale.min_proposals
    assert further[0] == max(further)
    none = SMALL.cut(size, np.zeros((0, 4)), None, np.random.default_rng(0))
    assert none[0].shape == (0, 4) and none[1].shape == (0,)


def test_usable_scales():
    assert all(scale.usable for scale in SNIPER_SCALES)
    wrong = [
        {},
        {"factor": 2.0, "long_side": 8},
        {"factor": 0.0},
        {"long_side": 8, "smallest": -1.0},
    ]
    wrong += [{"factor": 1.0, "smallest": 9.0, "largest": 9.0}]
    assert not any(ChipScale(**fields).usable for fields in wrong)
