"""Boundary F1: how well the outlines of a segmentation agree with the true outlines.

Csurka et al., What is a good evaluation measure for semantic segmentation? (BMVC 2013). For each
class in each image: the share of the predicted outline that is near the true outline (precision),
the share of the true outline that is near the predicted one (recall), and their harmonic mean,
averaged over the images.
"""

import math
from collections.abc import Sequence
from typing import Self

import cv2
import numpy as np
from jaxtyping import Bool, Float, Integer

from eval.coco import unique_names


class BoundaryF1:
    """Mean F1 of every class, over the images whose target or prediction has the class.

    The outline of a class is its pixels with another label above, below, left or right of them; the
    image's border and ignored pixels give no outline. Where only the target or only the prediction
    has an outline, F1 is 0.

    Args:
        classes: Names; a label is a position in this list.
        ignore_label: True label of pixels that do not count.
        tolerance: Largest distance that counts as near, as a share of the image's diagonal.
    """

    def __init__(
        self, classes: Sequence[str], ignore_label: int = 255, tolerance: float = 0.0075
    ) -> None:
        self.classes = list(classes)
        self.ignore_label = ignore_label
        self.tolerance = tolerance
        self._scores: list[Float[np.ndarray, " k"]] = []

    def update(
        self, target: Integer[np.ndarray, "h w"], prediction: Integer[np.ndarray, "h w"]
    ) -> None:
        """Adds one image."""
        counts = target != self.ignore_label
        limit = self.tolerance * math.hypot(*target.shape)
        edges = [_edges(labels, counts) for labels in (target, prediction)]
        scores = np.full(len(self.classes), np.nan)
        for k in range(len(self.classes)):
            if k == self.ignore_label:
                continue
            true, predicted = edges[0] & (target == k), edges[1] & (prediction == k)
            if true.any() or predicted.any():
                near = _share_near(predicted, true, limit), _share_near(true, predicted, limit)
                scores[k] = 2 * math.prod(near) / sum(near) if sum(near) else 0.0
        self._scores.append(scores)

    def merge(self, other: Self) -> None:
        """Adds the images of another process."""
        self._scores += other._scores

    def compute(self) -> dict[str, object]:
        """``boundary_F1``, the mean of ``per_class``; -1 for classes without any outline."""
        per_class = {}
        for k, name in enumerate(unique_names(dict(enumerate(self.classes)))):
            known = [scores[k] for scores in self._scores if not np.isnan(scores[k])]
            per_class[name] = math.fsum(known) / len(known) if known else -1.0
        known = [score for score in per_class.values() if score >= 0]
        mean = math.fsum(known) / len(known) if known else -1.0
        return {"boundary_F1": mean, "per_class": per_class}


def _edges(
    labels: Integer[np.ndarray, "h w"], counts: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """The pixels next to another label; only pixels that count are compared."""
    edge = np.zeros(labels.shape, bool)
    for first, second in (
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        differs = (labels[first] != labels[second]) & counts[first] & counts[second]
        edge[first] |= differs
        edge[second] |= differs
    return edge


def _share_near(
    outline: Bool[np.ndarray, "h w"], other: Bool[np.ndarray, "h w"], limit: float
) -> float:
    """Share of the pixels of `outline` within `limit` pixels of `other`; 0 if either is empty."""
    if not outline.any() or not other.any():
        return 0.0
    away = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((away[outline] <= limit).mean())
