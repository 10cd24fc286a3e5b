"""Letterboxed images, against darknet's program, and the way of boxes there and back."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.zoo.conftest import GOLDEN
from zoo.data.augment.picture import Picture, letterbox_picture
from zoo.data.transforms import letterbox, resize_and_crop
from zoo.ops.letterbox import letterbox_frames, way_back


@pytest.mark.parametrize("case", range(4))
def test_images_are_framed_as_in_darknet(case):
    """Half a value for the rounding to bytes; the grey is 127.5 there."""
    with np.load(GOLDEN / "letterbox_darknet.npz") as file:
        image, framed = file[f"{case}/image"], 255 * file[f"{case}/framed"]
    found = letterbox(image, framed.shape[:2])
    np.testing.assert_allclose(found, framed, rtol=0, atol=0.5 + 1e-3)
    inside = np.abs(framed - 127.5).max(axis=-1) > 0
    assert inside.any()
    assert (found[~inside] == 128).all()
    same = resize_and_crop(image, framed.shape[:2], 0.5, "bilinear", "letterbox")
    np.testing.assert_array_equal(same, found)


@pytest.mark.parametrize("size", [(30, 61), (61, 30), (33, 33), (1, 50), (200, 7)])
def test_boxes_come_back(size):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 1, (5, 2, 2)), axis=1) * size[::-1]
    boxes = corners.reshape(5, 4).astype(np.float32)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    picture = Picture(image, boxes, np.zeros(5, np.int32))
    framed = letterbox_picture(picture, (32, 48))
    assert framed.size == (32, 48)
    np.testing.assert_array_equal(framed.image, letterbox(image, (32, 48)))
    (inner,), (offset,) = letterbox_frames(np.array([size]), (32, 48))
    assert (inner == (32, 48)).any()
    assert (framed.boxes[:, :2] >= offset[::-1] - 1e-3).all()
    assert (framed.boxes[:, 2:] <= (offset + inner)[::-1] + 1e-3).all()

    start, scale = way_back(jnp.array([[32, 48]]), jnp.array([size]), letterbox=True)
    back = (framed.boxes - np.tile(start[0], 2)) * np.tile(scale[0], 2)
    np.testing.assert_allclose(back, boxes, rtol=1e-4, atol=1e-3)
    start, scale = way_back(jnp.array([[32, 48]]), jnp.array([[64, 24]]), letterbox=False)
    np.testing.assert_array_equal(start, [[0, 0]])
    np.testing.assert_array_equal(scale, [[0.5, 2]])
