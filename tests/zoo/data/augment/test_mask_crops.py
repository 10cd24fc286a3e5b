import dataclasses

import jax
import numpy as np
import pytest

from zoo.data import DetectionData, eval_batches, open_detection, train_batches
from zoo.data.augment.mask_crops import crop_masks
from zoo.data.augment.picture import Picture, crop, flip, resize_picture
from zoo.ops.mask_targets import mask_targets
from zoo.ops.rle import from_arrays

TARGETS = jax.jit(mask_targets, static_argnames=("size", "aligned", "threshold"))


def cropped(masks, boxes, size):
    return crop_masks(from_arrays(masks), boxes, size)


def with_crops(picture, size):
    crops = cropped(picture.masks, picture.boxes, size)
    return dataclasses.replace(picture, masks=None, mask_crops=crops)


def blobs(rng, count=5, size=(40, 52)):
    """Smooth masks, and boxes with fractions of pixels that touch or cut them."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    masks, boxes = [], []
    for _ in range(count):
        low = rng.uniform(0, np.array(size[::-1]) - 22)
        left, top, right, bottom = *low, *(low + rng.uniform(6, 22, 2))
        x, y = (left + right) / 2, (top + bottom) / 2
        inside = ((columns + 0.5 - x) / (right - left)) ** 2 + (
            (rows + 0.5 - y) / (bottom - top)
        ) ** 2
        masks.append((inside <= 0.25) & ((rows + columns) % 9 != 0))
        boxes.append((left, top, right, bottom))
    return np.array(masks), np.array(boxes, np.float32)


@pytest.mark.parametrize("size", [1, 5, 28])
def test_cells_have_the_share_of_their_area(size):
    """Against counting: every pixel and cell is divided into squares of 1/60 pixel."""
    rng, fine = np.random.default_rng(size), 60
    masks = rng.random((3, 9, 12)) < 0.5
    low = np.round(rng.uniform(0, 4, (3, 2)) * 10) / 10
    sides = rng.integers(1, 5, (3, 2))
    boxes = np.concatenate([low, low + sides], axis=1).astype(np.float32)
    found = cropped(masks, boxes, size)
    place = (np.arange(size * fine) + 0.5) / (size * fine)
    for crop_, mask, (left, top, right, bottom) in zip(found, masks, boxes, strict=True):
        rows = np.floor(top + place * (bottom - top)).astype(int)
        columns = np.floor(left + place * (right - left)).astype(int)
        squares = mask[np.ix_(rows, columns)].reshape(size, fine, size, fine)
        shares = squares.mean(axis=(1, 3))
        np.testing.assert_allclose(crop_ / 255, shares, atol=2 / fine + 1 / 255)
    assert np.ptp(found) > 60


def test_whole_boxes_are_full_and_the_edge_of_the_image_is_no_limit():
    masks = np.ones((2, 6, 7), bool)
    boxes = np.array([[0, 0, 7, 6], [2.3, 1.7, 6.9, 5.2]], np.float32)
    assert (cropped(masks, boxes, 16) == 255).all()
    flat = np.array([[1, 2, 1, 4], [1, 2, 4, 2]], np.float32)
    assert not cropped(masks, flat, 4).any()


@pytest.mark.parametrize(("aligned", "threshold"), [(True, None), (True, 0.5), (False, None)])
def test_targets_are_nearly_those_of_bitmaps(aligned, threshold):
    """The mean over the cells of all targets, of which some at the border of an object differ."""
    rng = np.random.default_rng(3)
    masks, boxes = blobs(rng, 8)
    picture = Picture(np.zeros((40, 52, 3), np.uint8), boxes, np.zeros(8, np.int32), masks)
    whole = resize_picture(picture, (160, 208))
    small = resize_picture(with_crops(picture, 56), (160, 208))
    np.testing.assert_array_equal(whole.boxes, small.boxes)
    sides = np.tile(whole.boxes[:, 2:] - whole.boxes[:, :2], 2)
    proposals = whole.boxes + sides * rng.uniform(-0.15, 0.15, (8, 4)).astype(np.float32)
    rules = {"size": 14, "aligned": aligned, "threshold": threshold}
    match = np.arange(8)[None]
    expected = TARGETS(whole.masks[None], proposals[None], match, **rules)
    found = TARGETS(
        small.mask_crops[None], proposals[None], match, frames=small.boxes[None], **rules
    )
    assert 0.2 < expected.mean() < 0.9
    assert abs(found - expected).mean() < 0.02
    assert (
        abs(TARGETS(whole.masks[None], proposals[None] + 2, match, **rules) - expected).mean()
        > 0.03
    )


def test_crops_move_with_their_objects():
    masks, boxes = blobs(np.random.default_rng(5))
    picture = Picture(np.zeros((40, 52, 3), np.uint8), boxes, np.zeros(5, np.int32), masks)
    early = flip(with_crops(picture, 20))
    late = with_crops(flip(picture), 20)
    np.testing.assert_allclose(early.boxes, late.boxes, atol=1e-5)
    assert abs(early.mask_crops.astype(int) - late.mask_crops).max() <= 1
    with pytest.raises(ValueError, match="before their masks are cropped"):
        crop(early, 0, 0, 10, 10)


def test_examples_have_crops_instead_of_bitmaps():
    """Digits are not resized, so their crops are those of the bitmaps."""
    data = DetectionData(train_split="train[:8]", masks=True, flip=True, threads=0)
    bitmaps, crops = (
        next(train_batches(open_detection(config, "train"), 8, seed=1))
        for config in (data, dataclasses.replace(data, mask_size=12))
    )
    assert (crops["masks"].shape, crops["masks"].dtype) == ((8, 6, 12, 12), np.uint8)
    for name in bitmaps.keys() - {"masks"}:
        np.testing.assert_array_equal(bitmaps[name], crops[name])
    for row in range(8):
        kept = bitmaps["box_valid"][row]
        expected = cropped(bitmaps["masks"][row, kept], bitmaps["boxes"][row, kept], 12)
        assert abs(crops["masks"][row, kept].astype(int) - expected).max() <= 1
        assert not crops["masks"][row, ~kept].any()
    held_out = open_detection(
        dataclasses.replace(data, mask_size=12, eval_split="test[:2]"), "eval"
    )
    assert next(iter(eval_batches(held_out, 2)))["masks"].any()
