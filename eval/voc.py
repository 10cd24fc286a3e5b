"""PASCAL VOC's detection AP, as the devkit defines it.

http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html. Corners are whole pixels,
both included, so a width is ``right - left + 1``. Every detection looks at the one object that it
overlaps most: the first, in order of score, to reach the threshold there is right, later ones are
wrong, and all are ignored if that object is marked difficult. As in the devkit an overlap equal to
the threshold suffices (py-faster-rcnn's copy of it asks for more).
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from eval.coco import Collected, unique_names
from eval.matching import group_keys
from eval.ragged import blocks, lengths_to_offsets, spread
from eval.records import Detections, Objects

_PAIRS_AT_ONCE = 1 << 18
# As the devkit's 0:0.1:1 counts: from both ends, so that only 0.3 is not the nearest number.
ELEVEN_RECALLS = np.array([0, 0.1, 0.2, 3 * 0.1, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1])


class VocEvaluator(Collected):
    """AP of every category and their mean.

    >>> one, no = np.array([1]), np.array([False])
    >>> box = np.array([[10.0, 10.0, 20.0, 20.0]])
    >>> evaluator = VocEvaluator({1: "cat"})
    >>> truth = Objects(one, one, box, np.array([441.0]), crowd=no, ignored=no)
    >>> evaluator.update([1], truth, Detections(one, one, np.array([0.9]), box, np.array([441.0])))
    >>> evaluator.compute()["mAP"]
    1.0

    Boxes are given as left, top, right - left, bottom - top. `Objects.ignored` is ``difficult``.
    Detections of equal score count in order of image id, then as given.

    Args:
        categories: Names by category id.
        iou_threshold: Least overlap of a right detection.
        eleven_point: AP as the mean precision at recalls 0, 0.1, ..., 1 (VOC 2007) instead of the
            area under the curve (VOC 2010 and later).
    """

    def __init__(
        self,
        categories: Mapping[int, str],
        iou_threshold: float = 0.5,
        eleven_point: bool = False,
    ) -> None:
        super().__init__()
        self.categories = dict(sorted(categories.items()))
        self.iou_threshold = iou_threshold
        self.eleven_point = eleven_point

    def compute(self) -> dict[str, object]:
        """``mAP``, and ``per_category`` with ``AP``, ``recall`` and ``precision`` over all.

        -1 for a category without objects that are not difficult.
        """
        objects, detections = self.gathered()
        right, wrong = self._judge(objects, detections)
        order = np.lexsort((detections.images, -detections.scores))
        per_category = {}
        for i, name in zip(self.categories, unique_names(self.categories), strict=True):
            rows = order[detections.categories[order] == i]
            total = int(np.count_nonzero((objects.categories == i) & ~objects.ignored))
            per_category[name] = self._figures(right[rows], wrong[rows], total)
        known = [figures["AP"] for figures in per_category.values() if figures["AP"] >= 0]
        return {"mAP": float(np.mean(known)) if known else -1.0, "per_category": per_category}

    def _judge(self, objects: Objects, detections: Detections) -> tuple[np.ndarray, np.ndarray]:
        """Which detections are right, and which are wrong."""
        overlap, nearest = _nearest(objects, detections)
        hit = overlap >= self.iou_threshold
        difficult = np.zeros(len(detections), bool)
        difficult[hit] = objects.ignored[nearest[hit]]
        order = np.lexsort((detections.images, -detections.scores))
        order = order[hit[order]]
        _, first = np.unique(nearest[order], return_index=True)
        right = np.zeros(len(detections), bool)
        right[order[first]] = True
        return right & ~difficult, ~right & ~difficult

    def _figures(self, right: np.ndarray, wrong: np.ndarray, total: int) -> dict[str, float]:
        if not total:
            return {"AP": -1.0, "recall": -1.0, "precision": -1.0}
        true, false = np.cumsum(right), np.cumsum(wrong)
        counted = np.maximum(true + false, 1)
        recall, precision = true / total, true / counted
        ap = eleven_point_ap if self.eleven_point else area_ap
        return {
            "AP": ap(recall, precision),
            "recall": float(recall[-1]) if len(recall) else 0.0,
            "precision": float(precision[-1]) if len(recall) else 0.0,
        }


def eleven_point_ap(recall: Float[np.ndarray, " d"], precision: Float[np.ndarray, " d"]) -> float:
    """Mean over eleven recalls of the highest precision there or beyond."""
    best = [precision[recall >= r].max(initial=0) for r in ELEVEN_RECALLS]
    return float(np.mean(best))


def area_ap(recall: Float[np.ndarray, " d"], precision: Float[np.ndarray, " d"]) -> float:
    """Area under the curve of the highest precision at each recall or beyond."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * envelope))


def _nearest(objects: Objects, detections: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Largest overlap of each detection and the row of that object, the first of equals."""
    object_keys, keys = group_keys(objects, detections)
    by_group = np.argsort(object_keys, kind="stable")
    start = np.searchsorted(object_keys[by_group], keys, side="left")
    count = np.searchsorted(object_keys[by_group], keys, side="right") - start
    overlap, nearest = np.full(len(detections), -np.inf), np.full(len(detections), -1)
    for part in blocks(lengths_to_offsets(count), _PAIRS_AT_ONCE):
        d = np.repeat(np.arange(part.start, part.stop), count[part])
        g = by_group[spread(start[part], count[part])]
        values = _inclusive_iou(detections.boxes_xywh[d], objects.boxes_xywh[g])
        order = np.lexsort((g, -values, d))
        best = order[np.flatnonzero(np.diff(d[order], prepend=-1))]
        overlap[d[best]], nearest[d[best]] = values[best], g[best]
    return overlap, nearest


def _inclusive_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    sides = np.maximum(high - low + 1, 0)
    inter = sides.prod(axis=1)
    return inter / ((a[:, 2:] + 1).prod(axis=1) + (b[:, 2:] + 1).prod(axis=1) - inter)
