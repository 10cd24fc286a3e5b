import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.roi import golden
from zoo.ops.assign import IouRule, assign_by_iou

RULES = {
    "none": IouRule(0.5, 0.3),
    "ties": IouRule(0.7, 0.3, low_quality="ties"),
    "best": IouRule(0.5, 0.5, low_quality="best"),
    "best_first": IouRule(0.5, 0.5, low_quality="best_first"),
    "reassigned_ties": IouRule(0.7, 0.3, low_quality="reassigned_ties", low_quality_floor=0.3),
    "floor": IouRule(0.5, 0.5, background_floor=0.1),
}
ASSIGN = jax.jit(assign_by_iou, static_argnames="rule")


@pytest.mark.parametrize("name", ["none", "ties", "best"])
def test_matches_are_torchvisions(name):
    peer = golden("assign")
    match, label = ASSIGN(peer["candidates"], peer["truth"], RULES[name])
    # torchvision: -1 for negative, -2 for ignored ones, else the object.
    expected = np.where(peer[name] >= 0, 1, np.where(peer[name] == -1, 0, -1))
    assert set(expected.tolist()) == ({0, 1} if name == "best" else {-1, 0, 1})
    np.testing.assert_array_equal(label, expected)
    positive = expected == 1
    np.testing.assert_array_equal(match[positive], peer[name][positive])


def slow_iou(a, b):
    inter = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inter = np.float32(max(inter[0], 0) * max(inter[1], 0))
    areas = [max(x[2] - x[0], 0) * max(x[3] - x[1], 0) for x in (a, b)]
    union = np.float32(areas[0] + areas[1] - inter)
    return inter / union if union > 0 else np.float32(0)


def slow_assign(candidates, truth, truth_valid, candidate_valid, rule):
    """One image, from the definitions of the fields of `IouRule`."""
    n, m = len(candidates), len(truth)
    real = [j for j in range(m) if truth_valid[j]]
    ious = np.array([[slow_iou(c, t) for t in truth] for c in candidates]).reshape(n, m)
    match, label = np.zeros(n, int), np.zeros(n, int)
    for i in range(n):
        best = max([ious[i, j] for j in real], default=0)
        match[i] = next((j for j in real if ious[i, j] == best), 0)
        if best >= rule.high:
            label[i] = 1
        elif best >= rule.low or best < rule.background_floor:
            label[i] = -1
    if rule.low_quality != "none":
        for j in reversed(real) if rule.low_quality == "best_first" else real:
            top = max((ious[i, j] for i in range(n) if candidate_valid[i]), default=0)
            if top <= 0 or top < rule.low_quality_floor:
                continue
            tied = [i for i in range(n) if candidate_valid[i] and ious[i, j] == top]
            for i in tied[:1] if rule.low_quality.startswith("best") else tied:
                label[i] = 1
                if rule.low_quality != "ties":
                    match[i] = j
    label[~candidate_valid] = -1
    return match, label


def draw(seed, n=40, m=6):
    """Boxes of multiples of 4, whose areas are exact and which tie; some are degenerate."""
    rng = np.random.default_rng(seed)
    boxes = []
    for count in (n, m):
        corner, size = rng.integers(0, 8, (count, 2)) * 4, rng.integers(0, 6, (count, 2)) * 4
        boxes.append(np.concatenate([corner, corner + size], axis=1).astype(np.float32))
    return (*boxes, rng.random(m) < 0.7, rng.random(n) < 0.9)


@pytest.mark.parametrize("name", RULES)
def test_definition(name):
    images = [draw(seed) for seed in range(6)]
    candidates, truth, truth_valid, candidate_valid = map(np.stack, zip(*images, strict=True))
    truth_valid[0] = False
    match, label = ASSIGN(
        jnp.array(candidates),
        jnp.array(truth),
        RULES[name],
        truth_valid=jnp.array(truth_valid),
        candidate_valid=jnp.array(candidate_valid),
    )
    assert match.dtype == label.dtype == jnp.int32
    for b, image in enumerate(zip(candidates, truth, truth_valid, candidate_valid, strict=True)):
        expected = slow_assign(*image, RULES[name])
        np.testing.assert_array_equal(label[b], expected[1])
        used = label[b] != -1
        np.testing.assert_array_equal(match[b][used], expected[0][used])


@pytest.mark.parametrize("low_quality", ["ties", "reassigned_ties", "best", "best_first"])
def test_an_object_that_overlaps_nothing_gets_no_candidate(low_quality):
    candidates = jnp.array([[0.0, 0, 10, 10], [10, 0, 20, 10]])
    truth = jnp.array([[50.0, 50, 60, 60], [0, 0, 10, 9]])
    match, label = assign_by_iou(candidates, truth, IouRule(0.7, 0.3, low_quality=low_quality))
    assert label.tolist() == [1, 0] and match[0] == 1


@pytest.mark.parametrize(("low_quality", "expected"), [("best", 1), ("best_first", 0)])
def test_the_best_candidate_of_two_objects_goes_to_one(low_quality, expected):
    """To the last one in SSD, to the first one in EfficientDet."""
    candidates = jnp.array([[0.0, 0, 10, 10], [50, 0, 60, 10]])
    truth = jnp.array([[0.0, 0, 4, 10], [6, 0, 10, 10]])
    rule = IouRule(0.5, 0.5, low_quality=low_quality)
    match, label = assign_by_iou(candidates, truth, rule)
    assert label.tolist() == [1, 0] and match[0] == expected


def test_without_objects_or_candidates():
    candidates, none = jnp.array([[0.0, 0, 10, 10]]), jnp.zeros((0, 4))
    rule = RULES["ties"]
    for truth, valid in ((none, None), (candidates, jnp.array([False]))):
        match, label = assign_by_iou(candidates, truth, rule, truth_valid=valid)
        assert match.tolist() == [0] and label.tolist() == [0]
    for name in RULES:
        match, label = assign_by_iou(none, candidates, RULES[name])
        assert match.shape == label.shape == (0,)


def test_no_gradient():
    candidates, truth, *_ = map(jnp.array, draw(1))

    def loss(boxes):
        match, label = assign_by_iou(boxes, truth, RULES["ties"])
        return (boxes[:, 0] * label + truth[match, 0]).sum()

    gradient = jax.grad(loss)(candidates)
    _, label = assign_by_iou(candidates, truth, RULES["ties"])
    np.testing.assert_array_equal(gradient[:, 0], label)


def test_memory_is_not_that_of_all_pairs():
    shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    lowered = ASSIGN.lower(shape((1, 50_000, 4)), shape((1, 100, 4)), RULES["ties"])
    assert lowered.compile().memory_analysis().temp_size_in_bytes < 4e6  # all pairs: 20 MB


@pytest.mark.parametrize(
    "fields", [{"high": 0.3, "low": 0.5}, {"high": 0.5, "low": 0.5, "background_floor": 0.6}]
)
def test_thresholds_out_of_order(fields):
    with pytest.raises(ValueError, match="does not hold"):
        IouRule(**fields)
