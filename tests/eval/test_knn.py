import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from eval.knn import TEMPERATURE, vote


def drawn(count, rng):
    x = rng.normal(size=(count, 5)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_the_votes_are_scikit_learns():
    rng = np.random.default_rng(0)
    features, queries, labels = drawn(60, rng), drawn(20, rng), rng.integers(0, 4, 60)

    def weigh(distances):  # for unit vectors d**2 = 2 - 2 cos
        return np.exp((1 - distances**2 / 2) / TEMPERATURE)

    known = KNeighborsClassifier(7, weights=weigh, algorithm="brute").fit(features, labels)
    votes = np.asarray(vote(queries, features, labels, 7, 4))
    expected = known.predict_proba(queries)
    np.testing.assert_allclose(votes / votes.sum(axis=1, keepdims=True), expected, atol=1e-4)


def test_one_neighbour_is_the_nearest():
    rng = np.random.default_rng(1)
    features = drawn(30, rng)
    labels = np.arange(30)
    votes = vote(features + 0.001, features, labels, 1, 30)
    np.testing.assert_array_equal(np.argmax(votes, axis=1), labels)
