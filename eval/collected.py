"""Collects ground truth and detections for the evaluators, batch by batch."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from jaxtyping import Int

from eval.records import DetectionRows, ObjectRows, concatenate


class Collected:
    """Ground truth and detections, collected batch by batch on any number of hosts.

    It contains plain numpy arrays, so it can be pickled; `merge` adds what other processes
    collected. Results depend neither on the batches nor on their order; but each image, with all
    of its objects and detections, must be in one update.
    """

    def __init__(self) -> None:
        self._images: list[Int[np.ndarray, " i"]] = []
        self._objects: list[ObjectRows] = []
        self._detections: list[DetectionRows] = []

    def update(
        self,
        images: Int[np.ndarray, " i"] | Sequence[int],
        objects: ObjectRows,
        detections: DetectionRows,
    ) -> None:
        """Adds a batch of images, each only once in the whole evaluation.

        Args:
            images: Ids of the batch's images, including those without any object or detection.
            objects: Their ground truth.
            detections: Their detections.

        Raises:
            ValueError: If an object or detection belongs to another image, has a number that is not
                finite, or a box of negative size.
        """
        images = np.asarray(images, np.int64)
        for kind, records in (("object", objects), ("detection", detections)):
            if len(stray := np.setdiff1d(records.images, images)):
                raise ValueError(f"{kind} of image {stray[0]}, which is not in the batch")
            _check_numbers(kind, records)
        self._images.append(images)
        self._objects.append(objects)
        self._detections.append(detections)

    def merge(self, other: Self) -> None:
        """Adds everything that another process collected."""
        self._images += other._images
        self._objects += other._objects
        self._detections += other._detections

    @property
    def images(self) -> Int[np.ndarray, " i"]:
        """The ids of all images so far, also of those without objects and detections."""
        return np.concatenate([np.zeros(0, np.int64), *self._images])

    def rows(self) -> tuple[ObjectRows, DetectionRows]:
        """All objects and all detections so far.

        Raises:
            ValueError: If there was no update, or an image was given twice.
        """
        if not self._images:
            raise ValueError("nothing to evaluate: no update yet")
        ids, counts = np.unique(np.concatenate(self._images), return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"{(counts > 1).sum()} images were given more than once, first {ids[counts > 1][0]}"
            )
        self._objects = [concatenate(self._objects)]
        self._detections = [concatenate(self._detections)]
        return self._objects[0], self._detections[0]


def _check_numbers(kind: str, records: ObjectRows | DetectionRows) -> None:
    columns = [records.boxes_xywh, records.areas, records.keypoints]
    if isinstance(records, DetectionRows):
        columns.append(records.scores)
    finite = np.ones(len(records), bool)
    for column in columns:
        if column is not None:
            finite &= np.isfinite(column).all(axis=tuple(range(1, column.ndim)))
    wrong = ~finite | (records.boxes_xywh[:, 2:] < 0).any(axis=1)
    if wrong.any():
        i = np.flatnonzero(wrong)[0]
        raise ValueError(
            f"{wrong.sum()} {kind}s with numbers that are not finite or boxes of negative size,"
            f" first {kind} {i}: image {records.images[i]}, box xywh {records.boxes_xywh[i]}"
        )
