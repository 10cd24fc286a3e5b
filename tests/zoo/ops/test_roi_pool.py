import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.roi import draw_boxes
from zoo.ops.roi_pool import roi_pool, spatial_pyramid_pool

STRIDES = (8.0, 16.0)


def draw(seed, rois=40):
    """Maps of two images at two levels, with equal values; boxes; levels, one of no map."""
    rng = np.random.default_rng(seed)
    maps = [np.round(rng.normal(size=(2, 11 // 2**i, 15 // 2**i, 2)), 1) for i in range(2)]
    boxes = np.stack([draw_boxes(rng, rois, 88, 120) for _ in range(2)])
    levels = rng.integers(-1, 2, (2, rois))
    return [jnp.asarray(x, jnp.float32) for x in maps], jnp.array(boxes), jnp.array(levels)


def span(low, high, length, rounding):
    """First and last cell of a box along an axis."""
    if rounding == "fast_rcnn":
        return tuple(int(math.copysign(math.floor(abs(x) + 0.5), x)) for x in (low, high))
    first, last = math.floor(low + 0.5), math.ceil(high - 0.5)
    if first > last:
        first = last = math.floor((first + last) / 2)
    return tuple(min(max(x, 0), length - 1) for x in (first, last))


def cells_of_bins(low, high, length, size, rounding):
    first, last = span(low, high, length, rounding)
    count = max(last - first + 1, 1)
    for i in range(size):
        start = first + i * count // size
        stop = first + (i + 1) * count // size + bool((i + 1) * count % size)
        yield range(max(start, 0), min(max(stop, 0), length))


def pool_one(features, box, gradient, stride, size, rounding):
    """The largest values of one box in one map [h w c], and the gradient of the map."""
    h, w, c = features.shape
    left, top, right, bottom = (float(x) / stride for x in box)
    pooled, back = np.zeros((size, size, c)), np.zeros((h, w, c))
    for i, rows in enumerate(cells_of_bins(top, bottom, h, size, rounding)):
        for j, columns in enumerate(cells_of_bins(left, right, w, size, rounding)):
            places = [(y, x) for y in rows for x in columns]
            for k in range(c if places else 0):
                best = max(places, key=lambda place: features[(*place, k)])
                pooled[i, j, k] = features[(*best, k)]
                back[(*best, k)] += gradient[i, j, k]
    return pooled, back


@pytest.mark.parametrize("rounding", ["fast_rcnn", "spp_net"])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_definition(size, rounding):
    maps, boxes, levels = draw(0)
    shape = (2, 40, size, size, 2)
    gradient = jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)

    @jax.jit
    def both(maps):
        settings = {"strides": STRIDES, "size": size, "rounding": rounding}
        pooled, back = jax.vjp(lambda x: roi_pool(x, boxes, levels, **settings), maps)
        return pooled, back(gradient)[0]

    pooled, back = both(maps)
    expected = [np.zeros(x.shape) for x in maps]
    for b in range(2):
        for r, level in enumerate(levels[b].tolist()):
            if level < 0:
                assert not pooled[b, r].any()
                continue
            features, row = np.asarray(maps[level][b]), np.asarray(gradient[b, r])
            args = boxes[b, r], row, STRIDES[level], size, rounding
            values, spread = pool_one(features, *args)
            np.testing.assert_array_equal(pooled[b, r], values.astype(np.float32))
            expected[level][b] += spread
    for found, slow in zip(back, expected, strict=True):
        np.testing.assert_allclose(found, slow, atol=1e-4)


def test_halves_are_rounded_away_from_zero():
    features = jnp.arange(16.0).reshape(1, 4, 4, 1)
    boxes = jnp.array([[[-4.0, 0.0, 4.0, 0.0], [12.0, 0.0, 20.0, 0.0]]])  # -.5 to .5, 1.5 to 2.5
    pooled = roi_pool([features], boxes, strides=[8.0], size=1)
    assert pooled.ravel().tolist() == [1, 3]


def test_empty_bins_are_zero_though_all_features_are_negative():
    features = jnp.full((1, 4, 4, 1), -2.0)
    boxes = jnp.array([[[100.0, 100.0, 200.0, 200.0], [16.0, 0.0, 47.0, 31.0]]])
    pooled = roi_pool([features], boxes, strides=[8.0], size=2)[0, ..., 0]
    assert pooled.tolist() == [[[0, 0], [0, 0]], [[-2, 0], [-2, 0]]]


def test_pyramid_of_bins():
    maps, boxes, levels = draw(2, rois=6)
    settings = {"strides": STRIDES, "rounding": "spp_net"}

    @jax.jit
    def both(*args):
        grids = [roi_pool(*args, size=size, **settings) for size in (3, 1)]
        return spatial_pyramid_pool(*args, strides=STRIDES, bins=(3, 1)), grids

    found, (three, one) = both(maps, boxes, levels)
    assert found.shape == (2, 6, 10, 2)
    np.testing.assert_array_equal(found[:, :, :9], three.reshape(2, 6, 9, 2))
    np.testing.assert_array_equal(found[:, :, 9], one[:, :, 0, 0])


def test_no_boxes_and_half_precision():
    maps, boxes, _ = draw(3)
    settings = {"strides": STRIDES[:1], "size": 2}
    assert roi_pool(maps[:1], boxes[:, :0], **settings).shape == (2, 0, 2, 2, 2)
    half = maps[0].astype(jnp.bfloat16)
    pooled = roi_pool([half], boxes, **settings)
    assert pooled.dtype == jnp.bfloat16
    exact = roi_pool([half.astype(jnp.float32)], boxes, **settings)
    np.testing.assert_array_equal(pooled.astype(jnp.float32), exact)
