import numpy as np
import pytest
import scipy.optimize
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge

from zoo.classical import mining
from zoo.classical.mining import (
    feature_scale,
    fit_box_regression,
    fit_linear_svm,
    fit_with_mining,
    mine,
)
from zoo.types import InputError

DATA = load_digits()
FEATURES = DATA.data * feature_scale(DATA.data)


def loss(weights, bias, features, positive, c=1e-3, positive_weight=2.0, bias_feature=10):
    margins = np.where(positive, 1, -1) * (features @ weights + bias)
    hinge = np.where(positive, positive_weight, 1) * np.maximum(0, 1 - margins)
    return (weights @ weights + (bias / bias_feature) ** 2) / 2 + c * hinge.sum()


def solve(features, positive, c=1e-3, positive_weight=2.0, bias_feature=10):
    """Weights and bias from the dual, a quadratic program with bounds, by L-BFGS-B."""
    signs = np.where(positive, 1, -1)
    signed = signs[:, None] * np.pad(features, [(0, 0), (0, 1)], constant_values=bias_feature)
    bounds = [(0, c * positive_weight if one else c) for one in positive]

    def dual(a):
        combined = a @ signed
        return combined @ combined / 2 - a.sum(), signed @ combined - 1

    options = {"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-9}
    start = np.zeros(len(features))
    found = scipy.optimize.minimize(
        dual, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    weights = found.x @ signed
    return weights[:-1], weights[-1] * bias_feature, -found.fun


def test_feature_scale():
    assert np.linalg.norm(FEATURES, axis=1).mean() == pytest.approx(20)


@pytest.mark.parametrize("settings", [{}, {"c": 0.01, "positive_weight": 1.0, "bias_feature": 1}])
def test_svm_equals_a_solution_of_its_dual(settings):
    """liblinear stops at a tolerance, so its loss is up to 0.1% above the minimum."""
    features, positive = FEATURES[:300], DATA.target[:300] == 8
    svm = fit_linear_svm(features, positive, **settings)
    weights, bias, minimum = solve(features, positive, **settings)
    assert loss(weights, bias, features, positive, **settings) == pytest.approx(minimum, rel=1e-4)
    found = loss(svm.weights[:, 0], svm.bias[0], features, positive, **settings)
    assert minimum * (1 - 1e-6) <= found <= minimum * 1.001
    scores = svm(features)[:, 0]
    np.testing.assert_allclose(scores, features @ weights + bias, atol=0.02)


@pytest.mark.parametrize("positive", [np.zeros(5, bool), np.ones(5, bool)])
def test_svm_needs_both_kinds(positive):
    with pytest.raises(InputError, match=f"{positive.sum()} of 5 examples are of the class"):
        fit_linear_svm(np.eye(5), positive)


def test_mine():
    rng = np.random.default_rng(0)
    scores, overlaps = rng.normal(size=50).round(1), rng.random(50).round(1)
    scores[:3], overlaps[:3] = (-1.0001, -1, 5), (0, 0, 0.3)
    found = mine(scores, overlaps)
    hard = [i for i in range(50) if scores[i] > -1.0001 and overlaps[i] < 0.3]
    assert found.tolist() == sorted(hard, key=lambda i: -scores[i])
    assert 1 in found and 0 not in found and 2 not in found
    assert mine(scores, overlaps, limit=2).tolist() == found[:2].tolist()
    fewer = mine(scores, overlaps, min_score=0.5, max_overlap=0.1)
    assert fewer.tolist() == [i for i in found if scores[i] > 0.5 and overlaps[i] < 0.1]
    assert mine(np.zeros(0), np.zeros(0)).shape == (0,)


def images(length):
    """Digits in images of 40 boxes each, of which each overlaps its own class."""
    for start in range(0, length, 40):
        rows = slice(start, start + 40)
        yield FEATURES[rows], 0.9 * np.eye(10)[DATA.target[rows]][:, :3]


def test_mining_finds_nearly_the_svm_of_all_negatives(monkeypatch):
    """Three digits against all others: a loss within 2%, with at most half of the examples."""
    sizes = []

    def spy(features, positive, **kwargs):
        sizes.append(len(features))
        return fit_linear_svm(features, positive, **kwargs)

    monkeypatch.setattr(mining, "fit_linear_svm", spy)
    positives = [FEATURES[:1200][DATA.target[:1200] == label] for label in range(3)]
    svms = fit_with_mining(positives, images(1200), retrain_after=60)
    assert svms.weights.shape == (64, 3)
    assert 9 <= len(sizes) <= 45 and max(sizes) < 600
    for label in range(3):
        positive = DATA.target[:1200] == label
        args = FEATURES[:1200], positive
        found = loss(svms.weights[:, label], svms.bias[label], *args)
        full = fit_linear_svm(*args)
        assert found <= 1.02 * loss(full.weights[:, 0], full.bias[0], *args)
    right = svms(FEATURES[1200:]).argmax(1) == DATA.target[1200:]
    assert right[DATA.target[1200:] < 3].mean() > 0.9


def test_images_before_the_first_negatives_are_no_trouble():
    negatives = FEATURES[DATA.target != 0][:30]
    first = [(FEATURES[:0], np.zeros((0, 1))), (FEATURES[:4], np.full((4, 1), 0.5))]
    last = [(negatives, np.zeros((30, 1))), (FEATURES[:0], np.zeros((0, 1)))]
    positives = FEATURES[DATA.target == 0][:20]
    found = fit_with_mining([positives], [*first, *last])
    examples = np.concatenate([positives, negatives])
    expected = fit_linear_svm(examples, np.arange(50) < 20)
    np.testing.assert_allclose(found.weights, expected.weights)
    np.testing.assert_allclose(found.bias, expected.bias)


def test_a_class_without_negatives():
    with pytest.raises(InputError, match="5 of 5 examples are of the class"):
        fit_with_mining([FEATURES[:5]], [(FEATURES[:9], np.ones((9, 1)))])


@pytest.mark.parametrize("n", [30, 400])
@pytest.mark.parametrize("ridge", [1.0, 1000.0])
def test_box_regression_equals_the_authors_steps(n, ridge):
    """Targets that are whitened, a ridge regression of each, and the whitening undone."""
    rng = np.random.default_rng(n)
    features = FEATURES[:n]
    deltas = features @ rng.normal(0, 0.02, (64, 4)) + rng.normal(0, [0.1, 0.1, 0.3, 0.2], (n, 4))
    mean = deltas.mean(0)
    values, vectors = np.linalg.eigh(np.cov(deltas.T, bias=True))
    whiten = vectors @ np.diag((values + 0.001) ** -0.5) @ vectors.T
    x = np.pad(features, [(0, 0), (0, 1)], constant_values=1)
    solver = Ridge(alpha=ridge, fit_intercept=False).fit(x, (deltas - mean) @ whiten)
    expected = solver.predict(x) @ np.linalg.inv(whiten) + mean
    found = fit_box_regression(features, deltas, ridge=ridge)
    np.testing.assert_allclose(found(features), expected, atol=1e-8)
    assert np.abs(expected - mean).max() > 0.1
