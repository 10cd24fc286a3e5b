"""The decoding of dense detectors, and what their losses share."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.zoo.models.detection.rcnn import small_targets
from zoo.models.detection.parts.dense import DenseDecoding, DenseOutput
from zoo.models.detection.parts.dense_loss import Matches, dense_metrics, focal_sums

SIZES = jnp.array([[45, 35]])


def output_of(probabilities, anchors, **more):
    anchors = jnp.asarray(anchors, jnp.float32)[None]
    logits = jax.scipy.special.logit(jnp.asarray(probabilities, jnp.float32))[None]
    return DenseOutput(logits, jnp.zeros_like(anchors), anchors, **more)


def test_duplicates_of_a_class_are_suppressed_and_boxes_are_clipped():
    anchors = [[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 40, 50], [0, 0, 30, 30]]
    scores = [[0.6, 0.3], [0.5, 0.06], [0.02, 0.9], [0.04, 0.01]]
    output = output_of(scores, anchors, level_sizes=(3, 1))
    found = DenseDecoding()(output, SIZES)
    count = int(found.valid.sum())
    np.testing.assert_allclose(found.scores[0, :count], [0.9, 0.6, 0.3], rtol=1e-5)
    np.testing.assert_array_equal(found.labels[0, :count], [1, 0, 1])
    np.testing.assert_allclose(found.boxes[0, 0], [20, 20, 35, 45])


def test_the_times_of_clipping_and_of_dropping_empty_boxes():
    """Only the whole boxes overlap by more than a half; the last one is outside of the image."""
    anchors = [[0.0, 0, 70, 20], [0, 0, 70, 12], [0, 0, 34, 12], [40, 0, 60, 10]]
    scores = [[0.9], [0.8], [0.7], [0.6]]
    output = output_of(scores, anchors, level_sizes=(4,))
    expected = {
        (True, False): [0.9, 0.6],
        (True, True): [0.9],
        (False, False): [0.9, 0.7, 0.6],
        (False, True): [0.9, 0.7],
    }
    for (first, drop), found in expected.items():
        rule = DenseDecoding(clip_first=first, drop_empty=drop)
        detections = rule(output, SIZES)
        assert detections.valid[0].tolist() == [True] * len(found) + [False] * (4 - len(found))
        np.testing.assert_allclose(detections.scores[0, : len(found)], found, rtol=1e-5)


def test_each_level_has_its_own_candidates():
    """One candidate a level: the second best pair of the first level is not found."""
    anchors = [[0.0, 0, 9, 9], [10, 10, 19, 19], [20, 20, 29, 29]]
    output = output_of([[0.9, 0.1], [0.8, 0.1], [0.1, 0.2]], anchors, level_sizes=(2, 1))
    found = DenseDecoding(candidates=1)(output, SIZES)
    np.testing.assert_allclose(found.scores[0], [0.9, 0.2], rtol=1e-5)
    np.testing.assert_array_equal(found.labels[0], [0, 1])
    np.testing.assert_allclose(found.boxes[0], [anchors[0], anchors[2]])


def test_both_uses_of_the_centerness():
    """As the root of the product it also decides about the threshold."""
    anchors = [[0.0, 0, 9, 9], [10, 10, 19, 19]]
    centred = jax.scipy.special.logit(jnp.array([[0.2, 0.9]]))
    output = output_of([[0.5], [0.3]], anchors, level_sizes=(2,), centerness=centred)
    root = DenseDecoding(score_threshold=0.35)(output, SIZES)
    np.testing.assert_allclose(root.scores[0], np.sqrt([0.3 * 0.9, 0.5 * 0.2]), rtol=1e-5)
    np.testing.assert_array_equal(root.valid[0], [True, False])
    after = DenseDecoding(score_threshold=0.35, centerness="after")(output, SIZES)
    assert int(after.valid.sum()) == 1
    np.testing.assert_allclose(after.scores[0, 0], 0.5 * 0.2, rtol=1e-5)


def test_focal_loss_of_the_definition():
    """Ignored anchors have none; every class of a negative anchor has one."""
    targets = small_targets()
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 4, 3)).astype(np.float32)
    match = np.array([[0, 1, 0, 0]] * 2)
    positive = np.array([[True, True, False, False], [False] * 4])
    counted = np.array([[True, True, True, False]] * 2)
    matches = Matches(*map(jnp.asarray, (match, positive, counted, positive)))
    found = focal_sums(jnp.asarray(logits), matches, targets, alpha=0.3, gamma=1.5)
    expected = np.zeros(2)
    for b, a, k in np.ndindex(2, 4, 3):
        p = 1 / (1 + np.exp(-float(logits[b, a, k])))
        right = positive[b, a] and targets.labels[b, match[b, a]] == k
        loss = -0.3 * (1 - p) ** 1.5 * np.log(p) if right else -0.7 * p**1.5 * np.log(1 - p)
        expected[b] += loss * counted[b, a]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_metrics_name_objects_and_levels_without_anchors():
    output = DenseOutput(
        jnp.zeros((2, 3, 3)).at[0, 0, 1].set(1.0),
        jnp.zeros((2, 3, 4)),
        jnp.zeros((2, 3, 4)),
        level_sizes=(2, 1),
    )
    positive = jnp.array([[True, True, False], [False] * 3])
    fitting = positive.at[0, 1].set(False)  # positive only because its object has no better one
    match = jnp.array([[0, 1, 0], [0, 0, 0]])
    matches = Matches(match, positive, jnp.ones((2, 3), bool), fitting)
    metrics = dense_metrics(output, matches, small_targets())
    values = {name: float(mean.value()) for name, mean in metrics.items()}
    assert values == {
        "class_accuracy": 1.0,
        "matched_objects": 0.5,
        "positive_level_0": 1.0,
        "positive_level_1": 0.0,
    }
