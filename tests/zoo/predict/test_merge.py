import jax.numpy as jnp
import numpy as np
import pytest

from zoo.outputs import Detections
from zoo.predict.merge import in_range, merge_scales


def draw(rng, images=2, n=7):
    low = rng.uniform(0, 30, (images, n, 2))
    boxes = np.concatenate([low, low + rng.uniform(4, 30, (images, n, 2))], axis=-1)
    return Detections(
        jnp.array(boxes, jnp.float32),
        jnp.array(rng.uniform(0.05, 1, (images, n)), jnp.float32),
        jnp.array(rng.integers(0, 2, (images, n))),
        jnp.array(rng.random((images, n)) < 0.85),
        keypoints=jnp.array(rng.uniform(0, 9, (images, n, 2, 3)), jnp.float32),
        mask_crops=jnp.array(rng.random((images, n, 4, 4)), jnp.float32),
    )


def overlap(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = np.maximum(high - low, 0).prod()
    return both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both)


def oracle(found, ranges, image, sigma, most, min_score):
    """A list of (score, label, box, keypoints, crop), best first, by loops over lists."""
    left = []
    for one, (low, high) in zip(found, ranges, strict=True):
        for j in np.flatnonzero(one.valid[image]):
            box = np.asarray(one.boxes[image, j], float)
            side = (box[2:] - box[:2]).prod() ** 0.5
            if low < side <= high:
                score, label = float(one.scores[image, j]), int(one.labels[image, j])
                left.append([score, label, box, one.keypoints[image, j], one.mask_crops[image, j]])
    done = []
    while left:
        best = max(left, key=lambda row: row[0])
        left = [row for row in left if row is not best]
        done.append(best)
        for row in left:
            if row[1] == best[1]:
                row[0] *= np.exp(-(overlap(row[2], best[2]) ** 2) / sigma)
    done.sort(key=lambda row: -row[0])
    return [row for row in done[:most] if row[0] >= min_score]


@pytest.mark.parametrize("most", [200, 6])
def test_merging_is_that_of_lists(most):
    rng = np.random.default_rng(most)
    found = [draw(rng, n=n) for n in (7, 9, 5)]
    ranges = [(0, 14.0), (9.0, 20.0), (16.0, None)]
    limits = [(low, np.inf if high is None else high) for low, high in ranges]
    options = {"sigma": 0.55, "most": most, "min_score": 0.05}
    merged = merge_scales(found, ranges, **options)
    assert merged.boxes.shape == (2, min(most, 21), 4)
    for image in range(2):
        expected = oracle(found, limits, image, **options)
        kept = np.asarray(merged.valid[image])
        assert kept.sum() == len(expected) > 4 and kept[: len(expected)].all()
        for j, (score, label, box, keypoints, crop) in enumerate(expected):
            np.testing.assert_allclose(merged.scores[image, j], score, rtol=1e-4)
            assert merged.labels[image, j] == label
            np.testing.assert_allclose(merged.boxes[image, j], box, rtol=1e-6)
            np.testing.assert_array_equal(merged.keypoints[image, j], keypoints)
            np.testing.assert_array_equal(merged.mask_crops[image, j], crop)


def test_without_ranges_all_count_and_masks_of_the_input_are_refused():
    found = draw(np.random.default_rng(0))
    merged = merge_scales([found, found], sigma=0.5)
    assert merged.valid.sum() == 2 * found.valid.sum()
    first = np.asarray(found.scores * found.valid).max(axis=1)
    np.testing.assert_allclose(merged.scores[:, 0], first, rtol=1e-6)
    one = merge_scales([found.replace(valid=found.valid & False)] * 2)
    assert not one.valid.any()
    with pytest.raises(ValueError, match="cannot be merged"):
        merge_scales([found.replace(masks=jnp.zeros((2, 7, 4, 4)))])


def test_the_bounds_of_a_range():
    boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 5, 5], [0, 0, 5.1, 5]])
    assert in_range(boxes, (4.0, 5.0)).tolist() == [False, True, False]
    assert in_range(boxes, (0.0, None)).all()
