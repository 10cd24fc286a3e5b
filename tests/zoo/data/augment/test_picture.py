import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.data.augment.picture import (
    Picture,
    clip_objects,
    crop,
    fit_size,
    flip,
    hide_unlabelled,
    pad,
    random_crop,
    resize_picture,
    select,
    shrink_to_fit,
)

SIDES = st.integers(8, 40)


@st.composite
def pictures(draw):
    """An image of noise with up to four rectangular objects, and its label map."""
    height, width, seed = draw(SIDES), draw(SIDES), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    count = int(rng.integers(0, 5))
    masks = np.zeros((count, height, width), bool)
    label_map = np.zeros((height, width), np.uint8)
    for label, mask in enumerate(masks):
        top, left = rng.integers(height), rng.integers(width)
        mask[top : rng.integers(top, height) + 1, left : rng.integers(left, width) + 1] = True
        label_map[mask] = label + 1
    labels = np.arange(count, dtype=np.int32)
    boxes = extents(masks)
    return Picture(image, boxes, labels, masks, label_map, corners(boxes, rng))


MIRRORED = np.array([0, 2, 1, 3])


def corners(boxes, rng):
    """Four joints for each object, at the corners of its box; one in five is not labelled."""
    places = boxes[:, [[0, 1], [0, 3], [2, 3], [2, 1]]]
    visibility = rng.choice([0, 1, 2], (len(boxes), 4, 1), p=[0.2, 0.4, 0.4])
    return hide_unlabelled(np.concatenate([places, visibility], axis=-1).astype(np.float32))


def extents(masks):
    """Boxes around masks; zeros around empty ones."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            box[:] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes


def assert_consistent(picture, within=0.0):
    assert picture.boxes.dtype == np.float32
    assert len(picture.boxes) == len(picture.labels) == len(picture.masks)
    assert picture.masks.shape[1:] == picture.label_map.shape == picture.image.shape[:2]
    height, width = picture.size
    assert (picture.boxes >= 0).all()
    assert (picture.boxes <= [width, height, width, height]).all()
    places, visibility = picture.keypoints[..., :2], picture.keypoints[..., 2]
    assert picture.keypoints.dtype == np.float32
    assert (places >= 0).all() and (places <= [width, height]).all()
    assert not places[visibility == 0].any()
    seen = picture.masks.any((1, 2))
    np.testing.assert_allclose(
        picture.boxes[seen], extents(picture.masks)[seen], rtol=0, atol=within + 1e-4
    )


@given(pictures())
@settings(max_examples=50, deadline=None)
def test_flip_moves_everything_and_is_its_own_inverse(picture):
    flipped = flip(picture, MIRRORED)
    assert_consistent(flipped)
    np.testing.assert_array_equal(flipped.masks, picture.masks[:, :, ::-1])
    back = flip(flipped, MIRRORED)
    for part in ("image", "boxes", "labels", "masks", "label_map", "keypoints"):
        np.testing.assert_array_equal(getattr(back, part), getattr(picture, part))


@given(pictures(), SIDES, SIDES, st.booleans())
@settings(max_examples=50, deadline=None)
def test_joints_at_corners_stay_there_when_resized(picture, height, width, fast):
    resized = resize_picture(picture, (height, width), fast=fast)
    labelled = picture.keypoints[..., 2] > 0
    np.testing.assert_array_equal(resized.keypoints[..., 2], picture.keypoints[..., 2])
    expected = resized.boxes[:, [[0, 1], [0, 3], [2, 3], [2, 1]]]
    np.testing.assert_array_equal(resized.keypoints[..., :2][labelled], expected[labelled])


@given(pictures(), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_joints_move_with_a_crop_or_are_cropped_away(picture, seed):
    rng = np.random.default_rng(seed)
    top, left = (int(rng.integers(side)) for side in picture.size)
    height, width = (
        int(rng.integers(1, side - start + 1))
        for side, start in zip(picture.size, (top, left), strict=True)
    )
    cut = crop(picture, top, left, height, width)
    before = picture.keypoints[np.searchsorted(picture.labels, cut.labels)]
    for was, now in zip(before.reshape(-1, 3), cut.keypoints.reshape(-1, 3), strict=True):
        x, y, visibility = was[0] - left, was[1] - top, was[2]
        inside = 0 <= x <= width and 0 <= y <= height and visibility
        assert now.tolist() == ([x, y, visibility] if inside else [0, 0, 0])


def test_keypoints_by_hand():
    image = np.zeros((10, 20, 3), np.uint8)
    keypoints = np.float32([[[2, 3, 2], [8, 3, 1], [0, 0, 0], [15, 9, 2]]])
    box = np.float32([[1, 1, 16, 10]])
    picture = Picture(image, box, np.zeros(1, np.int32), keypoints=keypoints)
    flipped = flip(picture, np.array([0, 2, 1, 3]))
    expected = [[[18, 3, 2], [0, 0, 0], [12, 3, 1], [5, 9, 2]]]
    np.testing.assert_array_equal(flipped.keypoints, expected)
    halved = resize_picture(picture, (5, 40)).keypoints
    np.testing.assert_array_equal(halved, [[[4, 1.5, 2], [16, 1.5, 1], [0, 0, 0], [30, 4.5, 2]]])
    cut = crop(picture, 2, 3, 6, 12)
    np.testing.assert_array_equal(cut.keypoints, [[[0, 0, 0], [5, 1, 1], [0, 0, 0], [0, 0, 0]]])
    padded = pad(picture, 4, 1, (20, 30), (9, 9, 9), 255)
    expected = [[[3, 7, 2], [9, 7, 1], [0, 0, 0], [16, 13, 2]]]
    np.testing.assert_array_equal(padded.keypoints, expected)
    np.testing.assert_array_equal(padded.boxes, [[2, 5, 17, 14]])
    with pytest.raises(ValueError, match="which joints are left and right"):
        flip(picture)


@given(pictures(), st.integers(0, 20), st.integers(0, 20))
@settings(max_examples=50, deadline=None)
def test_padding_is_undone_by_a_crop(picture, top, left):
    (height, width), fill = picture.size, (1, 2, 3)
    padded = pad(picture, top, left, (height + top + 3, width + left + 5), fill, 255)
    assert_consistent(padded)
    assert (padded.image[:top] == fill).all() and (padded.label_map[:, :left] == 255).all()
    back = crop(padded, top, left, height, width)
    for part in ("image", "boxes", "labels", "masks", "label_map", "keypoints"):
        kept = getattr(clip_objects(picture), part)
        np.testing.assert_array_equal(getattr(back, part), kept)


@given(pictures(), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_boxes_enclose_what_a_crop_leaves_of_the_masks(picture, seed):
    cut = random_crop(picture, (5, 30), np.random.default_rng(seed))
    assert_consistent(cut)
    assert cut.masks.any((1, 2)).all()
    drawn = np.zeros(cut.size, np.uint8)  # the label map again, from the cut masks
    for label, mask in zip(cut.labels, cut.masks, strict=True):
        drawn[mask] = label + 1
    np.testing.assert_array_equal(drawn, cut.label_map)
    for axis in (0, 1):
        assert min(5, picture.size[axis]) <= cut.size[axis] <= 30


@given(pictures(), SIDES, SIDES, st.booleans())
@settings(max_examples=100, deadline=None)
def test_boxes_enclose_resized_masks_to_a_pixel(picture, height, width, fast):
    resized = resize_picture(picture, (height, width), fast=fast)
    assert resized.size == (height, width)
    assert_consistent(resized, within=0.5)
    np.testing.assert_array_equal(resized.labels, picture.labels)


def test_a_crop_is_a_part_of_everything():
    grid = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    masks = np.zeros((2, 6, 8), bool)
    masks[0, 1:4, 2:7], masks[1, 0, 0] = True, True
    picture = Picture(grid, extents(masks), np.array([4, 9], np.int32), masks, grid[..., 0])
    cut = crop(picture, 2, 3, 4, 2)
    np.testing.assert_array_equal(cut.image, grid[2:6, 3:5])
    np.testing.assert_array_equal(cut.label_map, grid[2:6, 3:5, 0])
    np.testing.assert_array_equal(cut.boxes, [[0, 0, 2, 2]])
    assert cut.labels.tolist() == [4]
    np.testing.assert_array_equal(cut.masks, [[[1, 1], [1, 1], [0, 0], [0, 0]]])


def test_resized_boxes_and_images_by_hand():
    image = np.repeat(np.uint8([[0, 100, 200, 50]]), 2, axis=0)[..., None].repeat(3, axis=-1)
    boxes = np.array([[1, 0, 3, 2]], np.float32)
    picture = Picture(image, boxes, np.zeros(1, np.int32), label_map=image[..., 0])
    resized = resize_picture(picture, (4, 8))
    np.testing.assert_array_equal(resized.boxes, [[2, 0, 6, 4]])
    np.testing.assert_array_equal(resized.label_map[0], [0, 0, 100, 100, 200, 200, 50, 50])
    by_pillow = Image.fromarray(image).resize((8, 4), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resized.image, by_pillow)
    fast = resize_picture(picture, (4, 8), fast=True).image
    np.testing.assert_array_equal(fast, cv2.resize(image, (8, 4)))
    assert resize_picture(picture, (2, 4)) is picture


@pytest.mark.parametrize("size", [(5, 7), (3, 40), (31, 9)])
def test_label_maps_take_the_nearest_pixel_as_pillow_does(size):
    label_map = np.random.default_rng(0).integers(0, 255, (17, 23), np.uint8)
    picture = Picture(np.zeros((17, 23, 3), np.uint8), label_map=label_map)
    expected = Image.fromarray(label_map).resize(size[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resize_picture(picture, size).label_map, expected)
    flipped = resize_picture(flip(picture), size).label_map
    expected = Image.fromarray(label_map[:, ::-1]).resize(size[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(flipped, expected)


def test_boxes_outside_or_without_area_are_dropped():
    boxes = np.float32([[-5, -5, 3, 3], [9, 2, 30, 4], [10, 0, 20, 5], [2, 2, 2, 6], [4, 4, 3, 5]])
    picture = Picture(np.zeros((8, 10, 3), np.uint8), boxes, np.arange(5, dtype=np.int32))
    clipped = clip_objects(picture)
    assert clipped.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(clipped.boxes, [[0, 0, 3, 3], [9, 2, 10, 4]])
    assert select(picture, np.array([3, 0])).labels.tolist() == [3, 0]


# (height, width), size, and the result of facebookresearch/detr's get_size_with_aspect_ratio.
DETR_SIZES = [
    ((480, 640), 800, (800, 1066)),
    ((640, 480), 800, (1066, 800)),
    ((427, 640), 800, (800, 1199)),
    ((375, 1242), 800, (402, 1331)),
    ((640, 200), 800, (1334, 417)),
    ((500, 500), 608, (608, 608)),
    ((800, 1066), 800, (800, 1066)),
]


@pytest.mark.parametrize(("size", "short_side", "expected"), DETR_SIZES)
def test_sizes_are_detrs(size, short_side, expected):
    assert fit_size(size, short_side, 1333) == expected


@given(SIDES, SIDES, SIDES, SIDES)
def test_shrunk_sizes_fit_and_touch(height, width, most_height, most_width):
    size = shrink_to_fit((height, width), (most_height, most_width))
    assert size[0] <= most_height and size[1] <= most_width
    if height <= most_height and width <= most_width:
        assert size == (height, width)
    else:
        assert size[0] == most_height or size[1] == most_width
        assert size[0] / height == pytest.approx(size[1] / width, abs=1 / min(height, width))
