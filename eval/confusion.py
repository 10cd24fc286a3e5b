"""Semantic segmentation: a confusion matrix of pixels and all that follows from it."""

from collections.abc import Sequence
from typing import Self

import cv2
import numpy as np
from jaxtyping import Int, Integer

from eval.coco import unique_names

_EXACT = 1 << 24  # counts that a float32 histogram holds exactly


class ConfusionMatrix:
    """Pixels of every true class by predicted class.

    Its state is one array of integers: it pickles, and results do not depend on batches, their
    order or the number of processes.

    >>> matrix = ConfusionMatrix(["ground", "cat"])
    >>> matrix.update(np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 1]]))
    >>> matrix.counts.tolist()
    [[1, 1], [0, 1]]
    >>> matrix.compute()["mIoU"]
    0.5

    Args:
        classes: Names; labels are positions in this list.
        ignore_label: True label of pixels that do not count.

    Attributes:
        counts: Pixels, true by predicted.
    """

    def __init__(self, classes: Sequence[str], ignore_label: int = 255) -> None:
        self.classes = list(classes)
        self.ignore_label = ignore_label
        self.counts = np.zeros((len(classes), len(classes)), np.int64)

    def update(
        self, targets: Integer[np.ndarray, "*b h w"], predictions: Integer[np.ndarray, "*b h w"]
    ) -> None:
        """Adds label maps; uint8 is fastest.

        Raises:
            ValueError: If shapes differ, or a label that counts is not one of the classes.
        """
        if targets.shape != predictions.shape:
            raise ValueError(f"target of {targets.shape} but prediction of {predictions.shape}")
        k = len(self.classes)
        if _fits(targets) and _fits(predictions) and k <= 256 and 0 <= self.ignore_label < 256:
            count = _count_bytes
        else:
            count = _count
        self.counts += count(targets, predictions, k, self.ignore_label)

    def merge(self, other: Self) -> None:
        """Adds what another process counted."""
        self.counts += other.counts

    def compute(self) -> dict[str, object]:
        """Figures 0 to 1.

        ``mIoU`` (over the classes that are in targets or predictions), ``fwIoU`` (weighted by true
        pixels), ``pixel_accuracy``, ``mean_accuracy`` (mean recall of the classes in targets),
        ``dice`` (mean as for mIoU), and ``per_class``: ``iou``, ``precision``, ``recall``, ``dice``
        and true ``pixels`` by name. -1 where a denominator is zero. A class that is the label to
        ignore is in no mean; where it is predicted, the true class is missed.
        """
        right = np.diag(self.counts)
        true, predicted = self.counts.sum(axis=1), self.counts.sum(axis=0)
        union = true + predicted - right
        columns = {
            "iou": _ratio(right, union),
            "precision": _ratio(right, predicted),
            "recall": _ratio(right, true),
            "dice": _ratio(2 * right, true + predicted),
        }
        if 0 <= self.ignore_label < len(self.classes):
            for values in columns.values():
                values[self.ignore_label] = -1.0
        total = true.sum()
        return {
            "mIoU": _mean(columns["iou"]),
            "fwIoU": float((columns["iou"] * true).sum() / total) if total else -1.0,
            "pixel_accuracy": float(right.sum() / total) if total else -1.0,
            "mean_accuracy": _mean(columns["recall"]),
            "dice": _mean(columns["dice"]),
            "per_class": {
                name: {
                    **{key: float(values[i]) for key, values in columns.items()},
                    "pixels": int(true[i]),
                }
                for i, name in enumerate(unique_names(dict(enumerate(self.classes))))
            },
        }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), -1.0)


def _mean(values: np.ndarray) -> float:
    known = values[values >= 0]
    return float(known.mean()) if len(known) else -1.0


def _fits(labels: np.ndarray) -> bool:
    """Whether all labels are 0 to 255."""
    return labels.dtype == np.uint8 or not labels.size or 0 <= labels.min() <= labels.max() < 256


def _count_bytes(
    targets: np.ndarray, predictions: np.ndarray, k: int, ignore_label: int
) -> Int[np.ndarray, "k k"]:
    """OpenCV's joint histogram, four times as fast as numpy's bincount, of all 256 x 256 pairs."""
    pairs = np.zeros((256, 256), np.int64)
    flat = [
        np.ascontiguousarray(labels, np.uint8).reshape(-1, 1) for labels in (targets, predictions)
    ]
    for i in range(0, len(flat[0]), _EXACT):
        part = [labels[i : i + _EXACT] for labels in flat]
        pairs += cv2.calcHist(part, [0, 1], None, [256, 256], [0, 256, 0, 256]).astype(np.int64)
    pairs[ignore_label] = 0
    for kind, axis in (("target", 1), ("prediction", 0)):
        used = np.flatnonzero(np.sum(pairs, axis=axis))
        if len(used) and used[-1] >= k:
            raise ValueError(f"{kind} has label {used[-1]}, classes are 0 to {k - 1}")
    return pairs[:k, :k]


def _count(
    targets: np.ndarray, predictions: np.ndarray, k: int, ignore_label: int
) -> Int[np.ndarray, "k k"]:
    counts = targets != ignore_label
    true, predicted = (labels[counts].astype(np.int64) for labels in (targets, predictions))
    for kind, labels in (("target", true), ("prediction", predicted)):
        wrong = labels[(labels < 0) | (labels >= k)]
        if len(wrong):
            raise ValueError(f"{kind} has label {wrong[0]}, classes are 0 to {k - 1}")
    return np.bincount(true * k + predicted, minlength=k * k).reshape(k, k)
