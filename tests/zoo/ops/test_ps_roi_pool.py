import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.roi import draw_boxes
from zoo.ops.ps_roi_pool import ps_roi_pool


def round_half_away(x):
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def cells_of_bins(low, high, stride, length, size):
    """Exact edges: corners are whole pixels, the last one included."""
    start = Fraction(round_half_away(low), stride)
    extent = max(Fraction(round_half_away(high) + 1, stride) - start, Fraction(1, 10))
    for i in range(size):
        first = math.floor(start + i * extent / size)
        last = math.ceil(start + (i + 1) * extent / size)
        yield range(max(first, 0), min(max(last, 0), length))


def pool_one(maps, box, stride, size):
    """One box in score maps [h w d*size*size]."""
    h, w, c = maps.shape
    d = c // size**2
    left, top, right, bottom = map(float, box)
    pooled = np.zeros((size, size, d))
    for i, rows in enumerate(cells_of_bins(top, bottom, stride, h, size)):
        for j, columns in enumerate(cells_of_bins(left, right, stride, w, size)):
            for k in range(d):
                channel = (k * size + i) * size + j
                values = [maps[y, x, channel] for y in rows for x in columns]
                pooled[i, j, k] = np.mean(values) if values else 0
    return pooled


@pytest.mark.parametrize(("stride", "size"), [(16, 3), (8, 7)])
def test_definition(stride, size):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 88 // stride, 120 // stride, 2 * size**2)).astype(np.float32)
    boxes = np.stack([draw_boxes(rng, 40, 88, 120) for _ in range(2)])
    pool = jax.jit(lambda maps: ps_roi_pool(maps, jnp.array(boxes), stride=stride, size=size))
    pooled = pool(jnp.array(maps))
    assert pooled.shape == (2, 40, size, size, 2)
    for b in range(2):
        for r in range(40):
            expected = pool_one(maps[b], boxes[b, r], stride, size)
            np.testing.assert_allclose(pooled[b, r], expected, atol=1e-5)


def test_gradient_is_the_adjoint():
    """The means are linear in the maps, so <gradient, pool(x)> is <backward(gradient), x>."""
    rng = np.random.default_rng(1)
    maps = jnp.asarray(rng.normal(size=(1, 6, 8, 18)), jnp.float32)
    boxes = jnp.array(draw_boxes(rng, 40, 96, 128))[None]
    gradient = jnp.asarray(rng.normal(size=(1, 40, 3, 3, 2)), jnp.float32)

    @jax.jit
    def products(maps):
        pooled, back = jax.vjp(lambda x: ps_roi_pool(x, boxes, stride=16, size=3), maps)
        return (gradient * pooled).sum(), (back(gradient)[0] * maps).sum()

    expected, found = products(maps)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_no_boxes():
    pooled = ps_roi_pool(jnp.zeros((1, 4, 4, 8)), jnp.zeros((1, 0, 4)), stride=16, size=2)
    assert pooled.shape == (1, 0, 2, 2, 2)
