import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.warp_regions import warp_regions

SIZES = np.array([[40, 50], [33, 41]])  # height, width without padding


def draw(count=30):
    """Two padded images; boxes, some of which reach beyond the image with their context."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 40, 50, 3)).astype(np.float32)
    corners = rng.uniform(0, 1, (count, 2, 2)) * [41, 33]
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)
    boxes[0], boxes[1] = [0, 0, 41, 33], [10, 12, 10.2, 30]
    return images, boxes, rng.integers(2, size=count)


def enlarged(box, context):
    """Whole pixels from the first column and row to the ones after the last."""
    left, top, right, bottom = box.astype(np.float64)
    x, y = (left + right) / 2, (top + bottom) / 2
    scale = 0.5 / (1 - 2 * context)
    half = (right - left) * scale, (bottom - top) * scale
    edges = x - half[0], y - half[1], x + half[0], y + half[1]
    left, top, right, bottom = (math.floor(edge + 0.5) for edge in edges)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def parts(low, high, limit, size):
    """Pixels of the image, from and to, and places of the square, from and to."""
    first, last = min(max(low, 0), limit - 1), max(min(high, limit), 1)
    last = max(last, first + 1)
    before = math.floor((first - low) * size / (high - low) + 0.5)
    count = math.floor((last - first) * size / (high - low) + 0.5)
    return first, last, before, min(before + count, size)


def warped(image, box, size, context, resize):
    """The definition, with a function that resizes the part inside the image."""
    height, width = image.shape[:2]
    left, top, right, bottom = enlarged(box, context)
    x1, x2, i1, i2 = parts(left, right, width, size)
    y1, y2, j1, j2 = parts(top, bottom, height, size)
    square = np.zeros((size, size, image.shape[2]), np.float32)
    if i2 > i1 and j2 > j1:
        square[j1:j2, i1:i2] = resize(image[y1:y2, x1:x2], j2 - j1, i2 - i1)
    return square


def opencv(part, rows, columns):
    return cv2.resize(part, (columns, rows), interpolation=cv2.INTER_LINEAR)


def bilinear(part, rows, columns):
    """Pixel by pixel: each centre lies between two pixels of each axis, or beyond the last one."""
    height, width, _ = part.shape
    found = np.zeros((rows, columns, part.shape[2]))
    for j in range(rows):
        for i in range(columns):
            y, x = (j + 0.5) * height / rows - 0.5, (i + 0.5) * width / columns - 0.5
            for dy in (0, 1):
                for dx in (0, 1):
                    row, column = math.floor(y) + dy, math.floor(x) + dx
                    weight = (1 - abs(y - row)) * (1 - abs(x - column))
                    place = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
                    found[j, i] += weight * part[place]
    return found


@pytest.mark.parametrize("resize", [bilinear, opencv])
@pytest.mark.parametrize(("size", "context"), [(12, 16 / 227), (7, 0.0), (31, 0.2)])
def test_definition(size, context, resize):
    """1e-5 is the rounding of float32 for values of about 3; OpenCV computes in float32, too."""
    images, boxes, image = draw()
    found = jax.jit(warp_regions, static_argnames=("size", "context"))(
        jnp.asarray(images),
        jnp.asarray(boxes),
        jnp.asarray(image),
        jnp.asarray(SIZES),
        size=size,
        context=context,
    )
    zeros = 0
    for box, i, one in zip(boxes, image, np.asarray(found), strict=True):
        real = images[i, : SIZES[i, 0], : SIZES[i, 1]]
        np.testing.assert_allclose(one, warped(real, box, size, context, resize), rtol=0, atol=1e-5)
        zeros += (one == 0).all(axis=-1).sum()
    assert (zeros > 0) == (context > 0)


def test_a_whole_image_is_itself():
    image = jnp.arange(36.0).reshape(1, 6, 6, 1)
    box, first, sizes = jnp.array([[0.0, 0, 6, 6]]), jnp.array([0]), jnp.array([[6, 6]])
    found = warp_regions(image, box, first, sizes, size=6, context=0.0)
    np.testing.assert_array_equal(found, image)


def test_boxes_without_area_and_filling_are_finite():
    images, _, _ = draw()
    boxes = jnp.array([[5.0, 5, 5, 5], [0, 0, 0, 0], [50, 40, 50, 40]])
    found = warp_regions(jnp.asarray(images), boxes, jnp.zeros(3, int), jnp.asarray(SIZES), size=8)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], np.broadcast_to(images[0, 5, 5], (8, 8, 3)))


def test_gradient_goes_to_images_only():
    images, boxes, image = map(jnp.asarray, draw(4))

    def total(images, boxes):
        return (warp_regions(images, boxes, image, jnp.asarray(SIZES), size=8) ** 2).sum()

    of_images, of_boxes = jax.grad(total, (0, 1))(images, boxes)
    assert float(jnp.abs(of_images).max()) > 0
    assert not of_boxes.any()
