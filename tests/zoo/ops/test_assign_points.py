"""The assignment of points, against the definition in numpy, and the coder of distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.ops.anchors import Anchors
from zoo.ops.assign_points import PointRule, assign_points, level_ranges
from zoo.ops.distance_coder import DistanceCoder

STRIDES, SHAPES = (8, 16), ((6, 8), (3, 4))


def points():
    anchors = Anchors(tuple((s,) for s in STRIDES), (1.0,), STRIDES, offset=0.5)
    return np.concatenate(anchors.per_level(SHAPES)), tuple(h * w for h, w in SHAPES)


def by_definition(anchors, ranges, truth, valid, rule):
    """The smallest object that fulfils all conditions, for each point."""
    match, positive = np.zeros(len(anchors), int), np.zeros(len(anchors), bool)
    for i, (x1, y1, x2, _) in enumerate(anchors.tolist()):
        side = x2 - x1
        x, y, least = x1 + side / 2, y1 + side / 2, np.inf
        for j, (left, top, right, bottom) in enumerate(truth.tolist()):
            distances = (x - left, y - top, right - x, bottom - y)
            good = valid[j] and min(distances) > 0
            size, low, high = max(distances), ranges[0][i], ranges[1][i]
            good = good and (low <= size <= high if rule.closed else low < size < high)
            if rule.radius is not None:
                apart = max(abs(x - (left + right) / 2), abs(y - (top + bottom) / 2))
                good = good and apart < rule.radius * side
            area = (right - left) * (bottom - top)
            if good and area < least:
                least, match[i], positive[i] = area, j, True
    return match, positive


@pytest.mark.parametrize(
    "rule", [PointRule(), PointRule(None), PointRule(1.0, closed=True), PointRule(None, True)]
)
def test_equals_the_definition(rule):
    rng = np.random.default_rng(0)
    anchors, level_sizes = points()
    ranges = level_ranges(level_sizes, (20.0,))
    corners = rng.integers(0, 45, (3, 7, 2, 2)).astype(np.float32)  # distances equal to the limit
    truth = np.concatenate([corners.min(2), corners.max(2)], axis=-1)
    valid = rng.random((3, 7)) < 0.8
    batch = np.broadcast_to(anchors, (3, *anchors.shape))
    match, positive = jax.jit(lambda a, t, v: assign_points(a, ranges, t, rule, truth_valid=v))(
        batch, truth, valid
    )
    assert positive.sum() > 10
    for i in range(3):
        expected = by_definition(anchors, ranges, truth[i], valid[i], rule)
        np.testing.assert_array_equal(positive[i], expected[1])
        np.testing.assert_array_equal(match[i], expected[0])


def test_no_objects_and_room_for_none():
    anchors, level_sizes = points()
    ranges = level_ranges(level_sizes, (20.0,))
    for truth in (jnp.zeros((0, 4)), jnp.zeros((3, 4))):
        valid = jnp.zeros(len(truth), bool)
        match, positive = assign_points(
            jnp.asarray(anchors), ranges, truth, PointRule(), truth_valid=valid
        )
        assert not positive.any()
        assert not match.any()


def test_a_limit_between_two_levels_is_needed():
    with pytest.raises(ValueError, match="3 levels need one limit less"):
        level_ranges((4, 2, 1), (20.0,))


@pytest.mark.parametrize("relative", [True, False])
def test_decoding_undoes_encoding(relative):
    rng = np.random.default_rng(1)
    anchors, _ = points()
    corners = rng.normal(20, 9, (len(anchors), 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=-1).astype(np.float32)
    coder = DistanceCoder(relative)
    distances = coder.encode(jnp.asarray(boxes), jnp.asarray(anchors))
    np.testing.assert_allclose(coder.decode(distances, jnp.asarray(anchors)), boxes, atol=1e-4)
    side = anchors[:, 2] - anchors[:, 0] if relative else 1
    left = (anchors[:, 0] + anchors[:, 2]) / 2 - boxes[:, 0]
    np.testing.assert_allclose(distances[:, 0], left / side, atol=1e-4)
