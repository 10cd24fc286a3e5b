"""Linear SVMs with hard-negative mining and ridge regression of boxes: the heads of R-CNN.

Girshick et al., arXiv 1311.2524, sections 2.3 and C; the numbers that are defaults here are those
of the authors' code, https://github.com/rbgirshick/rcnn. Runs on the host.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from zoo.types import InputError


class Linear(NamedTuple):
    """A linear function of features, to a number for each class or coordinate.

    Attributes:
        weights: One column an output.
        bias: One value an output.
    """

    weights: Float[np.ndarray, "d k"]
    bias: Float[np.ndarray, " k"]

    def __call__(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """The function of each feature vector."""
        return features @ self.weights + self.bias


def feature_scale(features: Float[np.ndarray, "n d"], mean_norm: float = 20.0) -> float:
    """The factor that gives features this mean Euclidean norm, for which the default C is meant."""
    return mean_norm / float(np.linalg.norm(features, axis=1).mean())


def fit_linear_svm(
    features: Float[np.ndarray, "n d"],
    positive: Bool[np.ndarray, " n"],
    *,
    c: float = 1e-3,
    positive_weight: float = 2.0,
    bias_feature: int = 10,
    tolerance: float = 1e-4,
) -> Linear:
    """Fits a linear SVM of one class: positive scores for its objects, negative ones for the rest.

    Minimises ``|w|^2 / 2 + (b / bias_feature)^2 / 2 + c sum_i weight_i max(0, 1 - y_i z_i)`` with
    ``z = features w + b``, by coordinate descent in the dual: liblinear, which the authors use,
    through scikit-learn. The order of the coordinates is drawn from a fixed seed.

    Args:
        features: Scaled: see `feature_scale`.
        positive: True for objects of the class. There must be some, and some others.
        c: Weight of the loss against the regulariser.
        positive_weight: Weight of an object's loss; 1 for the others.
        bias_feature: The larger, the less the bias is regularised.
        tolerance: Of the violation of the optimality conditions, where liblinear stops.

    Raises:
        InputError: If all examples are of the class, or none.
    """
    from sklearn.svm import LinearSVC

    if positive.all() or not positive.any():
        raise InputError(
            f"an SVM needs objects of its class and others: {positive.sum()} of"
            f" {len(positive)} examples are of the class"
        )
    solver = LinearSVC(
        loss="hinge",
        C=c,
        class_weight={1: positive_weight},
        intercept_scaling=bias_feature,
        tol=tolerance,
        max_iter=100_000,
        random_state=0,
    ).fit(features, positive.astype(np.int64))
    return Linear(np.asarray(solver.coef_).T, np.asarray(solver.intercept_))


def mine(
    scores: Float[np.ndarray, " n"],
    overlaps: Float[np.ndarray, " n"],
    *,
    max_overlap: float = 0.3,
    min_score: float = -1.0001,
    limit: int | None = None,
) -> Int[np.ndarray, " m"]:
    """The most confident false positives of a class in an image.

    >>> mine(np.array([0.5, -2, 0.9, 2]), np.array([0, 0, 0.2, 0.7])).tolist()
    [2, 0]

    Args:
        scores: Of the boxes of the image.
        overlaps: Highest IoU of each box with an object of the class; 0 in an image without any.
        max_overlap: A box with at least this IoU is not false.
        min_score: A box is confident if it scores more; below -1 the loss of an SVM is 0.
        limit: How many are returned at most; all by default.

    Returns:
        Indices of boxes, the highest score first.
    """
    hard = np.flatnonzero((overlaps < max_overlap) & (scores > min_score))
    return hard[np.argsort(-scores[hard], kind="stable")][:limit]


def fit_with_mining(
    positives: Sequence[Float[np.ndarray, "_ d"]],
    images: Iterable[tuple[Float[np.ndarray, "_ d"], Float[np.ndarray, "_ k"]]],
    *,
    max_overlap: float = 0.3,
    retrain_after: int = 2000,
    min_score: float = -1.0001,
    evict_below: float = -1.2,
    c: float = 1e-3,
) -> Linear:
    """Fits the linear SVM of each class in one pass over the images, keeping only hard negatives.

    All negatives of the first image are used; of each later image, those that the class's present
    SVM does not reject with a margin: see `mine`. An SVM is fitted after the first image with
    negatives, whenever many were added, and at the end; then the easy ones are dropped.

    Args:
        positives: The features of the objects of each class, which stay.
        images: Features of the boxes of each image, and the highest IoU of each box with an object
            of each class in the image. Each image is read once.
        max_overlap: Boxes with a lower IoU are negatives.
        retrain_after: An SVM is fitted anew when more negatives than this were added.
        min_score: Negatives with a higher score are added.
        evict_below: Negatives with a lower score are dropped after fitting.
        c: As for `fit_linear_svm`.

    Returns:
        The scores of the k classes.

    Raises:
        InputError: If a class has no objects, or no negatives.
    """
    classes = [_Class(features, retrain_after, evict_below, c) for features in positives]
    for features, overlaps in images:
        for one, overlap in zip(classes, overlaps.T, strict=True):
            if one.svm is None:
                chosen = np.flatnonzero(overlap < max_overlap)
            else:
                scores = one.svm(features)[:, 0]
                chosen = mine(scores, overlap, max_overlap=max_overlap, min_score=min_score)
            one.add(features[chosen])
    fitted = [one.finish() for one in classes]
    return Linear(
        np.concatenate([svm.weights for svm in fitted], axis=1),
        np.concatenate([svm.bias for svm in fitted]),
    )


class _Class:
    """The SVM of one class, and the examples that it was fitted to and will be fitted to."""

    def __init__(
        self, positives: Float[np.ndarray, "p d"], retrain_after: int, evict_below: float, c: float
    ) -> None:
        self.positives, self.negatives = positives, positives[:0]
        self.retrain_after, self.evict_below, self.c = retrain_after, evict_below, c
        self.svm: Linear | None = None
        self.added = 0

    def add(self, negatives: Float[np.ndarray, "n d"]) -> None:
        """Takes negatives, and fits if it is time to."""
        self.negatives = np.concatenate([self.negatives, negatives])
        self.added += len(negatives)
        if self.added > (self.retrain_after if self.svm else 0):
            self._fit()

    def finish(self) -> Linear:
        """The SVM of all that was taken."""
        return self._fit() if self.added or self.svm is None else self.svm

    def _fit(self) -> Linear:
        examples = np.concatenate([self.positives, self.negatives])
        positive = np.arange(len(examples)) < len(self.positives)
        self.svm = svm = fit_linear_svm(examples, positive, c=self.c)
        self.negatives = self.negatives[svm(self.negatives)[:, 0] >= self.evict_below]
        self.added = 0
        return svm


def fit_box_regression(
    features: Float[np.ndarray, "n d"], deltas: Float[np.ndarray, "n 4"], *, ridge: float = 1000.0
) -> Linear:
    """Fits the correction of a class's boxes from the features of the boxes.

    Minimises the squared error plus ``ridge`` times the squared weights, in closed form. The
    targets are centred, and the weight of a constant feature of 1 is regularised with the others.
    The authors also whiten the targets and undo it in the prediction; that changes nothing, because
    the solution is linear in the targets.

    Args:
        features: Of boxes with an IoU of at least 0.6 with an object; scaled: see `feature_scale`.
        deltas: From each box to its object: the shift of the centre, over the width and the height
            of the box, and the logarithms of the ratios of the widths and of the heights.
        ridge: Weight of the regulariser.

    Returns:
        The deltas of boxes from their features.
    """
    mean = deltas.mean(axis=0, dtype=np.float64)
    x = np.pad(features.astype(np.float64), [(0, 0), (0, 1)], constant_values=1)
    y = deltas - mean
    n, d = x.shape
    if n < d:  # the same solution from a smaller system
        solution = x.T @ np.linalg.solve(x @ x.T + ridge * np.eye(n), y)
    else:
        solution = np.linalg.solve(x.T @ x + ridge * np.eye(d), x.T @ y)
    return Linear(solution[:-1], solution[-1] + mean)
