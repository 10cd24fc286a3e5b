"""Proposals of selective search in detection data."""

import dataclasses
from contextlib import closing

import numpy as np
import pytest

from zoo.classical.selective_search import FAST, propose, selective_search
from zoo.data import DataError, DetectionData, eval_batches, open_detection, train_batches
from zoo.data import proposals as cached
from zoo.data.augment.picture import Picture, crop, flip, resize_picture
from zoo.data.digit_scenes import draw_scene
from zoo.data.proposals import ProposalTable, search_images, silent
from zoo.types import SCENE_SEARCH, ProposalSearch

replace = dataclasses.replace


@pytest.fixture
def data(tmp_path):
    """Ten scenes with at most 60 proposals each, with a cache of their own."""
    return DetectionData(
        train_split="train[:10]",
        eval_split="test[:10]",
        proposals="selective_search",
        search=replace(SCENE_SEARCH, num_proposals=60),
        proposal_cache=str(tmp_path / "cache"),
        threads=0,
    )


def overlaps(a, b):
    corner = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    shared = (corner[1] - corner[0]).clip(0).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).prod(-1) for x in (a, b)]
    return shared / (areas[0][:, None] + areas[1] - shared)


def test_examples_have_the_proposals_of_their_image(data):
    batch = next(iter(eval_batches(open_detection(data, "eval"), 10)))
    assert batch["proposals"].shape == (10, 60, 4) and batch["proposals"].dtype == np.float32
    counts = batch["proposals_valid"].sum(1)
    assert counts.min() < 60 and counts.max() == 60
    for row, index in enumerate(batch["index"]):
        expected = propose(draw_scene("test", int(index)).image, data.search)
        found = batch["proposals"][row]
        assert counts[row] == len(expected)
        np.testing.assert_array_equal(found[: counts[row]], expected)
        assert not found[counts[row] :].any() and batch["proposals_valid"][row, : counts[row]].all()


def test_without_proposals_examples_have_none(data):
    batch = next(iter(eval_batches(open_detection(replace(data, proposals=None), "eval"), 2)))
    assert not any(name.startswith("proposals") for name in batch)


def test_proposals_find_the_digits(data):
    """At the settings of the recipes, on 40 scenes; `SCENE_SEARCH` states the recall."""
    found = []
    for index in range(40):
        scene = draw_scene("test", index)
        found += (overlaps(scene.boxes, propose(scene.image, SCENE_SEARCH)).max(1) >= 0.5).tolist()
    assert np.mean(found) > 0.96


def test_proposals_move_with_the_picture():
    rng = np.random.default_rng(0)
    image = np.zeros((40, 60, 3), np.uint8)
    corners = rng.uniform(0, 1, (20, 2, 2)) * [60, 40]
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)
    labels = np.arange(20, dtype=np.int32)
    picture = Picture(image, boxes, labels, proposals=boxes)
    for changed in (
        flip(picture),
        resize_picture(picture, (60, 45)),
        flip(resize_picture(crop(picture, 5, 7, 30, 40), (90, 80))),
    ):
        assert changed.proposals is not None and len(changed.proposals) > 10
        np.testing.assert_array_equal(changed.proposals, changed.boxes)
    assert flip(picture).proposals[0, 0] == 60 - boxes[0, 2]


def test_training_examples_mirror_them(data):
    """Mirrored images of a run have the mirrored proposals of the image, and its objects."""
    data, mirrored = replace(data, flip=True), 0
    dataset = open_detection(data, "train")
    with closing(train_batches(dataset, 20, seed=0)) as batches:
        batch = next(batches)
    for row, index in enumerate(batch["index"]):
        scene = draw_scene("train", int(index))
        expected = propose(scene.image, data.search)
        if not np.array_equal(batch["image"][row], scene.image):
            np.testing.assert_array_equal(batch["image"][row], scene.image[:, ::-1])
            left, top, right, bottom = expected.T
            expected = np.stack([64 - right, top, 64 - left, bottom], axis=1)
            mirrored += 1
        found = batch["proposals"][row][batch["proposals_valid"][row]]
        np.testing.assert_array_equal(found, expected)
    assert 0 < mirrored < 20


def test_the_cache_is_read_if_data_and_settings_are_the_same(data, monkeypatch, tmp_path):
    calls = []

    def counted(images, search, processes):
        calls.append(search)
        return search_images(images, search, processes)

    monkeypatch.setattr(cached, "search_images", counted)
    first = open_detection(data, "eval").transform.proposals
    again = open_detection(data, "eval").transform.proposals
    assert len(calls) == 1 and len(list((tmp_path / "cache").iterdir())) == 1
    np.testing.assert_array_equal(first.boxes, again.boxes)
    np.testing.assert_array_equal(first.offsets, again.offsets)

    # The training data as evaluation data: another split, the same file.
    open_detection(data, "train")
    open_detection(replace(data, eval_split=data.train_split), "eval")
    assert len(calls) == 2
    for changed in (
        replace(data, search=replace(data.search, sigma=0.6)),
        replace(data, eval_split="test[:9]"),
    ):
        open_detection(changed, "eval")
    assert len(calls) == 4 and len(list((tmp_path / "cache").iterdir())) == 4


def test_a_damaged_cache_is_computed_again(data, tmp_path, caplog):
    first = open_detection(data, "eval").transform.proposals
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    again = open_detection(data, "eval").transform.proposals
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert "damaged" in caplog.text and file.read_bytes() == whole


def test_progress_is_tracked(data):
    seen = []

    def track(items, what, total):
        seen.append((what, total))
        return items

    open_detection(data, "train", track=track)
    assert seen == [("selective search (train)", 10)]
    assert list(silent([1, 2], "", 2)) == [1, 2]


def test_several_processes_find_the_same():
    images = [draw_scene("test", i).image for i in range(6)] + [None]
    one, two = (list(search_images(images, SCENE_SEARCH, n)) for n in (1, 2))
    assert len(one) == len(two) == 7 and one[6].shape == (0, 4)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_large_images_are_searched_at_a_smaller_size():
    image = np.kron(draw_scene("test", 3).image, np.ones((4, 4, 1), np.uint8))
    found = propose(image, replace(SCENE_SEARCH, long_side=64))
    np.testing.assert_array_equal(found, 4 * propose(draw_scene("test", 3).image, SCENE_SEARCH))


def test_defaults_are_the_fast_mode():
    image = draw_scene("test", 1).image
    expected = selective_search(image, FAST, min_side=20)
    np.testing.assert_array_equal(propose(image, ProposalSearch()), expected[:2000])


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_proposals": 0},
        {"spaces": ("rgb",)},
        {"ks": ()},
        {"similarities": ((),)},
        {"min_size": -1},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=r"must|not one of"):
        ProposalSearch(**wrong)


def test_a_table_gives_the_boxes_of_an_image():
    table = ProposalTable(np.arange(12, dtype=np.float32).reshape(3, 4), np.array([0, 2, 2, 3]))
    assert len(table) == 3
    assert [len(table[i]) for i in range(3)] == [2, 0, 1] and table[2][0, 0] == 8


def test_an_unreadable_image_has_none(data, monkeypatch):
    dataset = open_detection(data, "eval")

    class Broken:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            if index == 1:
                raise DataError("broken")
            return dataset.source[index]

    table = cached.proposals_of(Broken(), replace(data, eval_split="other"), "eval", silent)
    assert len(table[0]) and len(table[2]) and not len(table[1])
