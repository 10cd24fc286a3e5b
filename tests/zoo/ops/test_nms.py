import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.ops import boxes as box_ops
from zoo.ops import nms as ops

SEEDS = st.integers(0, 10_000)


def greedy(boxes, scores, threshold, classes=None, valid=None):
    """One image, box by box; like torchvision: IoUs in float32, the threshold in float64."""
    overlap = np.asarray(box_ops.iou(boxes, boxes)).astype(float)
    scores = np.asarray(scores)
    kept = np.zeros(len(scores), bool)
    for i in np.argsort(-scores, kind="stable"):
        rivals = kept if classes is None else kept & (classes == classes[i])
        kept[i] = (valid is None or valid[i]) and not (overlap[i, rivals] > threshold).any()
    return kept


def draw(seed, n, coarse=False):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 60, (n, 2)), rng.uniform(0, 40, (n, 2))
    boxes = np.concatenate([corner, corner + size], axis=-1)
    scores = rng.random(n)
    if coarse:  # ties in score, equal and empty boxes, overlaps that are simple fractions
        boxes, scores = np.round(boxes / 10) * 10, np.round(scores, 1)
    classes = rng.integers(0, 3, n)
    return jnp.array(boxes, jnp.float32), jnp.array(scores, jnp.float32), jnp.array(classes)


NMS = jax.jit(ops.nms, static_argnums=2)
SOFT_NMS = jax.jit(ops.soft_nms, static_argnames="iou_threshold")


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
@given(seed=SEEDS, coarse=st.booleans())
@settings(deadline=None, max_examples=15)
def test_equals_greedy(threshold, seed, coarse):
    boxes, scores, _ = draw(seed, 45, coarse)
    kept = NMS(boxes, scores, threshold)
    np.testing.assert_array_equal(kept, greedy(boxes, scores, threshold))


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_classes_and_padding(seed):
    boxes, scores, classes = draw(seed, 45, coarse=True)
    valid = jnp.array(np.random.default_rng(seed + 1).random(45) < 0.8)
    kept = NMS(boxes, scores, 0.5, classes, valid)
    expected = greedy(boxes, scores, 0.5, np.asarray(classes), np.asarray(valid))
    np.testing.assert_array_equal(kept, expected)


@pytest.mark.parametrize("n", [0, 1, 32, 33])
def test_any_number_of_boxes(n):
    boxes, scores, _ = draw(7, n)
    kept = NMS(boxes, scores, 0.5)
    np.testing.assert_array_equal(kept, greedy(boxes, scores, 0.5))


def test_long_chain():
    """Each box suppresses the next one, so every second box is kept."""
    left = jnp.arange(200, dtype=jnp.float32)
    boxes = jnp.stack([left, 0 * left, left + 3, 0 * left + 1], axis=-1)
    kept = ops.nms(boxes, -left, 0.4)
    assert np.flatnonzero(kept).tolist() == list(range(0, 200, 2))


def test_batch_equals_single_and_vmap():
    images = [draw(seed, 64) for seed in range(4)]
    boxes, scores, classes = (jnp.stack(column) for column in zip(*images, strict=True))
    together = NMS(boxes, scores, 0.5, classes)
    single = [NMS(b, s, 0.5, c) for b, s, c in images]
    np.testing.assert_array_equal(together, np.stack(single))
    mapped = jax.jit(jax.vmap(lambda b, s: ops.nms(b, s, 0.5)))(boxes, scores)
    np.testing.assert_array_equal(mapped, NMS(boxes, scores, 0.5))


def test_degenerate_boxes_stay():
    boxes = jnp.array([[1.0, 1, 1, 5], [1, 1, 1, 5], [0, 0, 9, 9]])
    assert ops.nms(boxes, jnp.array([0.9, 0.8, 0.7]), 0.1).all()


def test_threshold_is_exclusive_and_compared_in_double_precision():
    boxes = jnp.array([[0.0, 0, 10, 1], [9, 0, 10, 1]])  # IoU 1 / 10, which is above 0.1 in float32
    scores = jnp.array([0.9, 0.8])
    assert ops.nms(boxes, scores, 0.1).tolist() == [True, False]
    boxes = jnp.array([[0.0, 0, 2, 1], [1, 0, 2, 1]])  # IoU exactly 1 / 2
    assert ops.nms(boxes, scores, 0.5).tolist() == [True, True]


def test_traced_threshold_is_compared_in_the_precision_of_the_boxes():
    boxes, scores, _ = draw(3, 45)
    kept = jax.jit(ops.nms)(boxes, scores, 0.5)
    np.testing.assert_array_equal(kept, ops.nms(boxes, scores, 0.5))
    np.testing.assert_array_equal(kept, ops.nms(boxes, scores, jnp.float32(0.5)))
    each = jax.vmap(lambda t: ops.nms(boxes, scores, t))(jnp.array([0.25, 0.5]))
    np.testing.assert_array_equal(each[0], ops.nms(boxes, scores, 0.25))
    np.testing.assert_array_equal(each[1], kept)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_whole_numbers_are_boxes_too(dtype):
    boxes, scores, _ = draw(4, 45, coarse=True)
    kept = ops.nms(boxes.astype(dtype), scores, 0.4)
    np.testing.assert_array_equal(kept, ops.nms(boxes, scores, 0.4))
    assert kept.sum() > 1


def test_select():
    scores = jnp.array([0.1, 0.9, 0.5, 0.7])
    rows, filled = ops.select(jnp.array([True, False, True, True]), scores, 4)
    assert rows[:3].tolist() == [3, 2, 0]
    assert filled.tolist() == [True, True, True, False]


def slow_soft_nms(boxes, scores, decay):
    overlap = np.asarray(box_ops.iou(boxes, boxes))
    scores, left = np.array(scores), list(range(len(scores)))
    while left:
        best = max(left, key=lambda i: (scores[i], -i))
        left.remove(best)
        for i in left:
            scores[i] *= decay(overlap[best, i])
    return scores


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_soft_nms(seed):
    boxes, scores, classes = draw(seed, 24)
    gaussian = slow_soft_nms(boxes, scores, lambda iou: np.exp(-(iou**2) / 0.5))
    np.testing.assert_allclose(SOFT_NMS(boxes, scores), gaussian, rtol=1e-5)
    linear = slow_soft_nms(boxes, scores, lambda iou: 1 - iou if iou > 0.3 else 1)
    np.testing.assert_allclose(SOFT_NMS(boxes, scores, iou_threshold=0.3), linear, rtol=1e-5)
    of_class = classes == 1
    by_class = SOFT_NMS(boxes, scores, classes=classes)
    alone = SOFT_NMS(boxes, scores, valid=of_class)
    np.testing.assert_allclose(by_class[of_class], alone[of_class], rtol=1e-5)
    assert not alone[~of_class].any()
