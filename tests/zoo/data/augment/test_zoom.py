"""Random squares: their scale and place, and objects that stay around their pixels."""

import json

import numpy as np
import pytest
from PIL import Image

from zoo.data import DetectionData, open_detection, train_batches
from zoo.data.augment.picture import Picture
from zoo.data.augment.zoom import random_zoom

HEIGHT, WIDTH, SIDE = 200, 300, 64


def picture(boxes=((120, 60, 200, 140),)):
    """A grey image with a white rectangle for each object; joints in its upper left corner."""
    image = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = 255
    boxes = np.array(boxes, np.float32)
    joints = np.concatenate([boxes[:, None, :2], np.full((len(boxes), 1, 1), 2)], axis=-1)
    return Picture(
        image, boxes, np.arange(len(boxes), dtype=np.int32), keypoints=joints.astype(np.float32)
    )


def zoomed(scales, count=30):
    rng = np.random.default_rng(0)
    return [random_zoom(picture(), SIDE, scales, rng) for _ in range(count)]


def test_boxes_and_joints_stay_with_their_pixels():
    seen = 0
    for found in zoomed((0.6, 1.3)):
        assert found.size == (SIDE, SIDE)
        rows, columns = np.nonzero(found.image[..., 0] > 180)
        if not len(found.boxes):
            assert len(rows) <= SIDE  # at most a line, from interpolation at the border
            continue
        extent = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        np.testing.assert_allclose(found.boxes[0], extent, atol=1.5)
        x, y, visible = found.keypoints[0, 0]
        if visible:
            seen += 1
            np.testing.assert_allclose(found.boxes[0, :2], (x, y), atol=1e-4)
        else:
            assert found.boxes[0, :2].min() == 0
    assert seen > 15


def test_the_scale_is_that_of_the_longer_side():
    """The object's width is in proportion; where it is cut, it is less."""
    widths = []
    for found in zoomed((0.6, 1.3), 100):
        widths += (found.boxes[:, 2] - found.boxes[:, 0]).tolist()
    largest = 80 * SIDE / (0.6 * WIDTH)
    assert 0.85 * largest < max(widths) <= largest + 0.5
    for found in zoomed((2.0, 2.0)):  # all of it is in the square
        width = found.boxes[0, 2] - found.boxes[0, 0]
        assert width == pytest.approx(80 * SIDE / (2 * WIDTH), abs=0.2)


def test_outside_is_black_and_the_centre_is_in_the_image():
    black = 0
    for found in zoomed((0.6, 1.3)):
        assert found.image[SIDE // 2, SIDE // 2].min() >= 100
        dark = found.image[..., 0] < 50
        black += dark.any()
        assert dark[:, dark.all(axis=0)].all() and found.image[~dark].min() >= 50
    assert black > 15


def test_training_takes_squares_and_evaluation_whole_images(tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    one = picture()
    Image.fromarray(one.image).save(folder / "0.png")
    left, top, right, bottom = one.boxes[0].tolist()
    file = {
        "images": [{"id": 1, "file_name": "0.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": [
            {
                **{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0},
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
            }
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    path = tmp_path / "annotations" / "instances_train.json"
    path.parent.mkdir()
    path.write_text(json.dumps(file))
    config = DetectionData(
        f"coco:{tmp_path}",
        eval_split="train",
        buckets=((HEIGHT, WIDTH),),
        zoom=(0.6, 1.3),
        zoom_side=SIDE,
        threads=1,
    )
    batch = next(iter(train_batches(open_detection(config, "train"), 4, seed=0)))
    assert batch["image"].shape == (4, SIDE, SIDE, 3)
    assert (batch["size"] == SIDE).all()
    example = open_detection(config, "eval")
    assert example.padding[0]["image"].shape == (HEIGHT, WIDTH, 3)


def test_scales_are_two_positive_numbers():
    for config in (
        {"zoom": (1.3, 0.6)},
        {"zoom": (0.6, 1.3), "random_crop": True, "short_sides": (8,)},
    ):
        with pytest.raises(ValueError, match=r"data\.zoom is"):
            open_detection(DetectionData(**config), "train")
