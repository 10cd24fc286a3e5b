"""LVIS's detection metrics: federated, with many rare categories, 300 detections an image.

A category is checked in an image only if it was annotated there or is known to be absent; in images
where its annotation is incomplete, unmatched detections do not count. arXiv 1908.03195; the figures
are those of the lvis package. Like it, objects and detections of area 0 are left out. One
deviation, as in `eval.coco`: an annotation of id 0 is an object like any other.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import numpy as np
from jaxtyping import Int

from eval.average_precision import Curves, accumulate
from eval.coco import AREAS, THRESHOLDS, Collected, unique_names
from eval.matching import Settings, match
from eval.overlap import Overlap, box_iou, mask_iou
from eval.records import Detections, Objects, take

MAX_DETECTIONS = 300
FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}


class LvisEvaluator(Collected):
    """AP over all, rare, common and frequent categories, and AR.

    Args:
        categories: Names by category id.
        frequencies: r, c or f by category id.
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
        self._absent: list[np.ndarray] = []
        self._incomplete: list[np.ndarray] = []

    def update(
        self,
        images: Int[np.ndarray, " i"] | Sequence[int],
        objects: Objects,
        detections: Detections,
        absent: Int[np.ndarray, "a 2"] | None = None,
        incomplete: Int[np.ndarray, "c 2"] | None = None,
    ) -> None:
        """Adds a batch of images, as `Collected.update`.

        Args:
            images: Their ids.
            objects: Their ground truth.
            detections: Their detections.
            absent: Image and category ids of categories known not to be in an image.
            incomplete: Image and category ids where not every object is annotated.
        """
        super().update(images, objects, detections)
        none = np.zeros((0, 2), np.int64)
        self._absent.append(none if absent is None else absent)
        self._incomplete.append(none if incomplete is None else incomplete)

    def merge(self, other: Self) -> None:
        """Adds all that another process gathered."""
        super().merge(other)
        self._absent += other._absent
        self._incomplete += other._incomplete

    def curves(self) -> Curves:
        """Precision, recall and scores; the last axis has one entry."""
        objects, detections = self.gathered()
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
        matched = match(objects, detections, self.overlap, self.settings, None, lenient)
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


def _mean(values: np.ndarray) -> float:
    present = values[values > -1]
    return float(np.mean(present)) if len(present) else -1.0


def _best_per_image(detections: Detections) -> np.ndarray:
    """Rows of the best `MAX_DETECTIONS` of each image, whatever their category."""
    order = np.lexsort((-detections.scores, detections.images))
    images = detections.images[order]
    ranks = np.arange(len(images)) - np.searchsorted(images, images, side="left")
    return np.sort(order[ranks < MAX_DETECTIONS])


def _is_in(detections: Detections, pairs: np.ndarray) -> np.ndarray:
    """Whether the image and category of each detection are among `pairs`."""
    span = max(detections.categories.max(initial=0), pairs[:, 1].max(initial=0)) + 1
    keys = detections.images * span + detections.categories
    return np.isin(keys, pairs[:, 0] * span + pairs[:, 1])
