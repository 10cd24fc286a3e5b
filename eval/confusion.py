"""Semantic segmentation: a confusion matrix of pixels, and the figures computed from it."""

from collections.abc import Sequence
from typing import Self

import cv2
import numpy as np
from jaxtyping import Float, Int, Integer

from eval.coco import unique_names

_EXACT = 1 << 24  # counts that a float32 histogram holds exactly


class ConfusionMatrix:
    """Counts of pixels by true class and predicted class.

    Its state is one array of integers. It can be pickled, and results depend neither on batches,
    nor on their order, nor on the number of processes.

    >>> matrix = ConfusionMatrix(["ground", "cat"])
    >>> matrix.update(np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 1]]))
    >>> matrix.counts.tolist()
    [[1, 1], [0, 1]]
    >>> matrix.compute()["mIoU"]
    0.5

    Args:
        classes: Names; a label is a position in this list.
        ignore_label: True label of pixels that do not count.

    Attributes:
        counts: Number of pixels, true class by predicted class.
        ignored: Number of pixels with the label to ignore.
    """

    def __init__(self, classes: Sequence[str], ignore_label: int = 255) -> None:
        self.classes = list(classes)
        self.ignore_label = ignore_label
        self.counts = np.zeros((len(classes), len(classes)), np.int64)
        self.ignored = 0

    def update(
        self, targets: Integer[np.ndarray, "*b h w"], predictions: Integer[np.ndarray, "*b h w"]
    ) -> None:
        """Adds label maps; those of uint8 are counted fastest.

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
        counts = count(targets, predictions, k, self.ignore_label)
        self.counts += counts
        self.ignored += targets.size - int(counts.sum())

    def merge(self, other: Self) -> None:
        """Adds the counts of another process."""
        self.counts += other.counts
        self.ignored += other.ignored

    def mistake(self) -> str | None:
        """What must be wrong with the true label maps, as in `ignored_mistake`; None if nothing."""
        true = self.counts.sum(axis=1)
        return ignored_mistake(self.classes, true, self.ignored, self.ignore_label)

    def compute(self) -> dict[str, object]:
        """Figures 0 to 1.

        ``mIoU`` (over the classes that are in targets or predictions), ``fwIoU`` (weighted by true
        pixels), ``pixel_accuracy``, ``mean_accuracy`` (mean recall of the classes in targets),
        ``dice`` (mean as for mIoU), and ``per_class``: ``iou``, ``precision``, ``recall``, ``dice``
        and true ``pixels`` by name. -1 where a denominator is zero. A class whose label is
        `ignore_label` is in no mean; pixels where it is predicted count as errors of the true
        class.
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


def ignored_mistake(
    classes: Sequence[str], pixels: Int[np.ndarray, " k"], ignored: int, ignore_label: int
) -> str | None:
    """Tells if the label to ignore must be a class, as in masks of 0 and 255; else None.

    Args:
        classes: Names of the classes.
        pixels: Number of true pixels of each class.
        ignored: Number of pixels with the label to ignore.
        ignore_label: That label.
    """
    if not ignored or len(classes) < 2 or np.count_nonzero(pixels) > 1:
        return None
    (only,) = np.flatnonzero(pixels)[:1] if pixels.any() else (None,)
    others = "no pixel is left" if only is None else f"all others are of class {classes[only]!r}"
    return (
        f"{ignored / (ignored + pixels.sum()):.2%} of the pixels have the label {ignore_label},"
        f" which is ignored, and {others}: if {ignore_label} is a class, as in masks of 0 and 255,"
        " change it to the number of the class, or ignore another label"
    )


def _ratio(part: Int[np.ndarray, " k"], whole: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """``part / whole``, -1 where `whole` is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), -1.0)


def _mean(values: Float[np.ndarray, " k"]) -> float:
    """The mean of the values that are not -1."""
    known = values[values >= 0]
    return float(known.mean()) if len(known) else -1.0


def _fits(labels: Integer[np.ndarray, "..."]) -> bool:
    """Whether all labels are 0 to 255."""
    return labels.dtype == np.uint8 or not labels.size or 0 <= labels.min() <= labels.max() < 256


def _count_bytes(
    targets: Integer[np.ndarray, "..."],
    predictions: Integer[np.ndarray, "..."],
    k: int,
    ignore_label: int,
) -> Int[np.ndarray, "k k"]:
    """Counts with OpenCV's joint histogram of all 256 x 256 pairs of labels.

    This is four times as fast as numpy's bincount.
    """
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
    targets: Integer[np.ndarray, "..."],
    predictions: Integer[np.ndarray, "..."],
    k: int,
    ignore_label: int,
) -> Int[np.ndarray, "k k"]:
    """Counts labels of any size."""
    counts = targets != ignore_label
    true, predicted = (labels[counts].astype(np.int64) for labels in (targets, predictions))
    for kind, labels in (("target", true), ("prediction", predicted)):
        wrong = labels[(labels < 0) | (labels >= k)]
        if len(wrong):
            raise ValueError(f"{kind} has label {wrong[0]}, classes are 0 to {k - 1}")
    return np.bincount(true * k + predicted, minlength=k * k).reshape(k, k)
