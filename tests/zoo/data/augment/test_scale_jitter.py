import numpy as np
import pytest

from zoo.data.augment.picture import Picture
from zoo.data.augment.scale_jitter import jitter_scale
from zoo.data.detection_config import DetectionData, check_config
from zoo.data.errors import DataError


def picture():
    """A gray image with a white box."""
    image = np.full((40, 80, 3), 100, np.uint8)
    image[10:30, 20:60] = 255
    boxes = np.array([[20, 10, 60, 30]], np.float32)
    return Picture(image, boxes, np.zeros(1, np.int32))


def test_sizes_and_boxes_follow_the_factor():
    """The factor is relative to the size that fits: 64 x 32 px here; the box is half of it."""
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(300):
        found = jitter_scale(picture(), (64, 64), (0.25, 2.0), rng)
        height, width = found.size
        assert 8 <= height <= 64 and 15 <= width <= 64
        if width < 64:  # not cut
            shares = found.boxes[0] / [width, height, width, height]
            np.testing.assert_allclose(shares, [0.25, 0.25, 0.75, 0.75], rtol=1e-5)
        widths.append(width)
        inside = found.image[..., 0] > 200
        for left, top, right, bottom in found.boxes:
            assert inside[int(top) + 1 : int(bottom) - 1, int(left) + 1 : int(right) - 1].all()
    uncut = np.mean(np.array(widths) < 64)
    assert abs(uncut - 0.75 / 1.75) < 0.1  # uniform; three standard deviations


def test_a_part_can_miss_the_objects():
    wide = Picture(
        np.zeros((20, 400, 3), np.uint8),
        np.array([[0, 0, 100, 20]], np.float32),
        np.zeros(1, np.int32),
    )
    rng = np.random.default_rng(1)
    counts = [len(jitter_scale(wide, (64, 64), (4.0, 4.0), rng).boxes) for _ in range(30)]
    assert set(counts) == {0, 1}


@pytest.mark.parametrize(
    "fields", [{"scale_jitter": (2.0, 1.0)}, {"random_crop": True, "short_sides": (64,)}]
)
def test_what_does_not_go_together(fields):
    with pytest.raises(DataError, match=r"data\.scale_jitter is .* two positive factors"):
        check_config(DetectionData(**{"scale_jitter": (0.1, 2.0), **fields}))
