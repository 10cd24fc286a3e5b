"""LVIS's detection metrics: federated annotation, many rare categories, 300 detections an image.

A category is evaluated in an image only if it was annotated there or is known to be absent. Where
its annotation is incomplete, unmatched detections do not count. Paper: arXiv 1908.03195. The
figures equal those of the lvis package; as there, objects and detections of area 0 are left out.
One deviation, as in `eval.coco`: an annotation of id 0 is an object like any other.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import numpy as np
from jaxtyping import Bool, Float, Int

from eval.average_precision import Curves, accumulate
from eval.coco import AREAS, THRESHOLDS, unique_names
from eval.collected import Collected
from eval.matching import Settings, match_detections
from eval.overlap import Overlap, box_iou, mask_iou
from eval.records import DetectionRows, ObjectRows, take

MAX_DETECTIONS = 300
FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}


class LvisEvaluator(Collected):
    """AP over all categories and over rare, common and frequent ones, and AR.

    Args:
        categories: Names by category id.
        frequencies: r (rare), c (common) or f (frequent), by category id.
        iou_type: ``bbox`` or ``segm``.
    """

    def __init__(
        self,
        categories: Mapping[int, str],
        frequencies: Mapping[int, str],
        iou_type: Literal["bbox", "segm"] = "bbox",
    ) -> None:
        super().__init__()
        self.categories = dict(sorted(categories.items()))
        self.frequencies = [frequencies[i] for i in self.categories]
        self.settings = Settings(THRESHOLDS, tuple(AREAS.values()))
        self.overlap: Overlap = {"bbox": box_iou, "segm": mask_iou}[iou_type]
        self._absent: list[Int[np.ndarray, "a 2"]] = []
        self._incomplete: list[Int[np.ndarray, "c 2"]] = []

    def update(
        self,
        images: Int[np.ndarray, " i"] | Sequence[int],
        objects: ObjectRows,
        detections: DetectionRows,
        absent: Int[np.ndarray, "a 2"] | None = None,
        incomplete: Int[np.ndarray, "c 2"] | None = None,
    ) -> None:
        """Adds a batch of images, as `Collected.update`.

        Args:
            images: Ids of the images.
            objects: Their ground truth.
            detections: Their detections.
            absent: Pairs of image id and category id: the category is known not to be in the image.
            incomplete: Pairs of image id and category id: not every object is annotated.
        """
        super().update(images, objects, detections)
        none = np.zeros((0, 2), np.int64)
        self._absent.append(none if absent is None else absent)
        self._incomplete.append(none if incomplete is None else incomplete)

    def merge(self, other: Self) -> None:
        """Adds everything that another process collected."""
        super().merge(other)
        self._absent += other._absent
        self._incomplete += other._incomplete

    def curves(self) -> Curves:
        """Precision, recall and scores; the last axis has one entry."""
        objects, detections = self.rows()
        known = np.fromiter(self.categories, np.int64)
        detections = take(detections, _best_per_image(detections))
        objects = take(objects, np.isin(objects.categories, known) & (objects.areas > 0))
        usable = np.isin(detections.categories, known) & (detections.areas > 0)
        detections = take(detections, usable)
        present = np.stack([objects.images, objects.categories], axis=-1)
        checked = np.concatenate([present, *self._absent])
        detections = take(detections, _is_in(detections, checked))
        lenient = _is_in(detections, np.concatenate(self._incomplete))
        objects = dataclasses.replace(objects, crowd=np.zeros(len(objects), bool))
        matched = match_detections(objects, detections, self.overlap, self.settings, None, lenient)
        return accumulate(objects, detections, matched, known, self.settings, (None,))

    def compute(self) -> dict[str, object]:
        """Figures by name, each 0 to 1, or -1 where there is nothing to average.

        ``AP AP50 AP75 APs APm APl APr APc APf AR300 ARs300 ARm300 ARl300`` and ``per_category``:
        AP and AP50 of each category by its name.
        """
        curves = self.curves()
        precision, recall = curves.precision[..., 0], curves.recall[..., 0]  # t r k a, t k a
        sizes = list(zip("sml", range(1, 4), strict=True))
        frequencies = np.array(self.frequencies)
        groups = {f"AP{f}": precision[:, :, frequencies == f, 0] for f in FREQUENCIES}
        figures = {
            "AP": precision[..., 0],
            "AP50": precision[0, ..., 0],
            "AP75": precision[THRESHOLDS.index(0.75), ..., 0],
            **{f"AP{letter}": precision[..., a] for letter, a in sizes},
            **groups,
            f"AR{MAX_DETECTIONS}": recall[..., 0],
            **{f"AR{letter}{MAX_DETECTIONS}": recall[..., a] for letter, a in sizes},
        }
        per_category = {
            name: {"AP": _mean(precision[:, :, i, 0]), "AP50": _mean(precision[0, :, i, 0])}
            for i, name in enumerate(unique_names(self.categories))
        }
        return {
            **{key: _mean(values) for key, values in figures.items()},
            "per_category": per_category,
        }


def _mean(values: Float[np.ndarray, "..."]) -> float:
    """The mean of the values that are not -1."""
    present = values[values > -1]
    return float(np.mean(present)) if len(present) else -1.0


def _best_per_image(detections: DetectionRows) -> Int[np.ndarray, " d"]:
    """Rows of the best `MAX_DETECTIONS` detections of each image, over all categories."""
    order = np.lexsort((-detections.scores, detections.images))
    images = detections.images[order]
    ranks = np.arange(len(images)) - np.searchsorted(images, images, side="left")
    return np.sort(order[ranks < MAX_DETECTIONS])


def _is_in(detections: DetectionRows, pairs: Int[np.ndarray, "p 2"]) -> Bool[np.ndarray, " d"]:
    """Whether the image and category of each detection are among `pairs`."""
    span = max(detections.categories.max(initial=0), pairs[:, 1].max(initial=0)) + 1
    keys = detections.images * span + detections.categories
    return np.isin(keys, pairs[:, 0] * span + pairs[:, 1])
