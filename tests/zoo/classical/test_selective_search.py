from pathlib import Path

import numpy as np
import pytest

from zoo.classical.selective_search import FAST, QUALITY, Diversity, selective_search
from zoo.types import InputError

with np.load(Path(__file__).parents[2] / "golden" / "selective_search.npz") as file:
    GOLDEN = dict(file)
PICTURE = GOLDEN["picture"]


def share(found, expected):
    """Boxes in both sets, over boxes in one of them."""
    found, expected = ({tuple(box) for box in boxes.tolist()} for boxes in (found, expected))
    return len(found & expected) / len(found | expected)


def best_overlaps(truth, boxes):
    low = np.maximum(truth[:, None, :2], boxes[:, :2])
    high = np.minimum(truth[:, None, 2:], boxes[:, 2:])
    inter = np.maximum(high - low, 0).prod(-1)
    areas = (truth[:, 2:] - truth[:, :2]).prod(-1)[:, None], (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return (inter / (areas[0] + areas[1] - inter)).max(1)


@pytest.mark.parametrize("space", ["hsv", "lab", "intensity", "hue", "rgi"])
def test_each_similarity_gives_opencvs_boxes(space):
    """Equal sets, but for ties between sizes, which OpenCV breaks at random."""
    cases = [name for name in GOLDEN if name.startswith(f"boxes/{space},")]
    assert len(cases) == 6
    for case in cases:
        names = tuple(case.rpartition(",")[2].split("+"))
        found = selective_search(PICTURE, Diversity((space,), (150.0,), (names,)))
        assert share(found, GOLDEN[case]) >= 0.95, case


@pytest.mark.parametrize(("mode", "settings"), [("fast", FAST), ("quality", QUALITY)])
def test_each_mode_gives_opencvs_boxes(mode, settings):
    found = selective_search(PICTURE, settings)
    assert found.dtype == np.float32
    assert len(np.unique(found, axis=0)) == len(found)
    assert share(found, GOLDEN[f"boxes/{mode}"]) >= 0.98


def test_finds_digits_as_often_as_opencv():
    """Of the digits in three scenes, which are small: hence the small regions."""
    settings = Diversity(FAST.spaces, (50.0, 100.0, 150.0), FAST.similarities, min_size=10)
    ours, theirs = [], []
    for index in range(3):
        found = selective_search(GOLDEN[f"scene/{index}"], settings)
        ours.extend(best_overlaps(GOLDEN[f"truth/{index}"], found))
        theirs.extend(best_overlaps(GOLDEN[f"truth/{index}"], GOLDEN[f"found/{index}"]))
    assert np.mean(np.array(theirs) > 0.5) > 0.9
    np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_order():
    """The first boxes are mostly large; the seed decides the order and nothing else."""
    found = selective_search(PICTURE, seed=1)
    areas = (found[:, 2:] - found[:, :2]).prod(axis=1)
    quarter = len(found) // 4
    assert np.median(areas[:quarter]) > 2 * np.median(areas[-quarter:])
    np.testing.assert_array_equal(found, selective_search(PICTURE, seed=1))
    other = selective_search(PICTURE, seed=2)
    assert share(found, other) == 1 and not np.array_equal(found, other)


def test_small_boxes_are_left_out():
    found, large = selective_search(PICTURE), selective_search(PICTURE, min_side=30)
    keep = (found[:, 2:] - found[:, :2]).min(axis=1) >= 30
    assert 0 < keep.sum() < len(found)
    np.testing.assert_array_equal(large, found[keep])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (40, 30)])
def test_a_flat_image_is_one_box(shape):
    image = np.full((*shape, 3), 128, np.uint8)
    assert selective_search(image).tolist() == [[0, 0, shape[1], shape[0]]]


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(InputError, match=r"RGB image \[h w 3\] of uint8, not"):
        selective_search(image)
