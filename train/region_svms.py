"""The SVMs and box regressions of an R-CNN or SPP-net, from the features of regions.

R-CNN, arXiv 1311.2524, sections 2.3 and C, with the numbers of the authors' code: an SVM of each
class, with the true boxes as positives and with hard negatives among the proposals that overlap no
object of the class by 0.3 or more; a ridge regression of each class from the proposals that overlap
its objects by 0.6 or more. `zoo.classical.mining` has the arithmetic.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from zoo.classical.mining import Linear, feature_scale, fit_box_regression, fit_with_mining
from zoo.types import InputError

_MIN_PAIR_IOU = 0.6
_SCALED_BY = 200  # images whose features decide the scale


class ImageRegions(NamedTuple):
    """The regions of one image: r proposals, and m true boxes.

    Attributes:
        features: What is classified, of the proposals.
        pooled: What boxes are regressed from, of the proposals.
        iou: Of each proposal and each true box.
        deltas: From each proposal to the true box that it overlaps most: see
            `zoo.models.detection.parts.decode.ROI_CODER`.
        labels: Of the true boxes.
        true_features: What is classified, of the true boxes.
    """

    features: Float[np.ndarray, "r features"]
    pooled: Float[np.ndarray, "r d"]
    iou: Float[np.ndarray, "r m"]
    deltas: Float[np.ndarray, "r 4"]
    labels: Int[np.ndarray, " m"]
    true_features: Float[np.ndarray, "m features"]

    def overlaps(self, num_classes: int) -> Float[np.ndarray, "r k"]:
        """The highest IoU of each proposal with an object of each class; 0 without any."""
        found = np.zeros((len(self.features), num_classes), np.float32)
        for label, iou in zip(self.labels.tolist(), self.iou.T, strict=True):
            found[:, label] = np.maximum(found[:, label], iou)
        return found


class RegionFunctions(NamedTuple):
    """What is fitted, as functions of the unscaled features.

    Attributes:
        svm: The score of each class.
        ridge: The four deltas of each class, one class after the other.
    """

    svm: Linear
    ridge: Linear


def fit_regions(
    images: Callable[[str], Iterable[ImageRegions]], num_classes: int
) -> RegionFunctions:
    """Fits the SVMs and the box regressions of all classes.

    Args:
        images: Goes through all images; it is called twice, with a text that says what for.
        num_classes: Number of classes, k.

    Raises:
        InputError: If a class has no object, or there are no proposals.
    """
    positives: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
    pairs = _Pairs(num_classes)
    sample: list[tuple[np.ndarray, np.ndarray]] = []
    for one in images("features of the objects"):
        for label, features in zip(one.labels.tolist(), one.true_features, strict=True):
            positives[label].append(features)
        pairs.add(one)
        if len(sample) < _SCALED_BY:
            sample.append((one.features, one.pooled))
    if missing := [str(label) for label, found in enumerate(positives) if not found]:
        raise InputError(f"the images have no object of the classes {', '.join(missing)}")
    features, pooled = (np.concatenate(part) for part in zip(*sample, strict=True))
    if not len(features):
        raise InputError("the images have no proposals")

    scale = feature_scale(features)
    mined = ((one.features * scale, one.overlaps(num_classes)) for one in images("hard negatives"))
    svm = fit_with_mining([np.stack(found) * scale for found in positives], mined)
    ridge = pairs.fit(pooled.shape[1], feature_scale(pooled))
    return RegionFunctions(Linear(svm.weights * scale, svm.bias), ridge)


class _Pairs:
    """The proposals of each class that overlap an object, with their deltas to it."""

    def __init__(self, num_classes: int) -> None:
        self.features: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
        self.deltas: list[list[np.ndarray]] = [[] for _ in range(num_classes)]

    def add(self, one: ImageRegions) -> None:
        """Takes the pairs of an image."""
        if not one.iou.size:
            return
        labels = one.labels[one.iou.argmax(axis=1)]
        near = one.iou.max(axis=1) >= _MIN_PAIR_IOU
        for label in np.unique(labels[near]).tolist():
            chosen = near & (labels == label)
            self.features[label].append(one.pooled[chosen])
            self.deltas[label].append(one.deltas[chosen])

    def fit(self, dim: int, scale: float) -> Linear:
        """The regressions of all classes; a class without pairs leaves boxes as they are."""
        found = []
        for features, deltas in zip(self.features, self.deltas, strict=True):
            if features:
                x, y = np.concatenate(features) * scale, np.concatenate(deltas)
                found.append(fit_box_regression(x, y))
            else:
                found.append(Linear(np.zeros((dim, 4)), np.zeros(4)))
        weights = np.concatenate([one.weights for one in found], axis=1)
        return Linear(weights * scale, np.concatenate([one.bias for one in found]))
