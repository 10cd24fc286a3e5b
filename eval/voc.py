"""PASCAL VOC's detection AP, as the devkit defines it.

http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html. Corners are whole pixels,
both included, so a width is ``right - left + 1``. Every detection is compared with the one object
that it overlaps most. In order of score, the first detection of an object whose overlap reaches the
threshold is correct, and later ones are wrong; all of them are ignored if the object is marked
difficult. As in the devkit, an overlap equal to the threshold is enough (py-faster-rcnn's copy of
the devkit needs a larger one).
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from eval.coco import unique_names
from eval.collected import Collected
from eval.matching import group_keys
from eval.records import DetectionRows, ObjectRows
from zoo.ops.ragged import blocks, lengths_to_offsets, spread

_PAIRS_AT_ONCE = 1 << 18
# The numbers of the devkit's 0:0.1:1, which MATLAB counts from both ends: of these, only 3 * 0.1
# differs from the decimal number.
ELEVEN_RECALLS = np.array([0, 0.1, 0.2, 3 * 0.1, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1])


class VocEvaluator(Collected):
    """AP of every category, and their mean.

    >>> one, no = np.array([1]), np.array([False])
    >>> box = np.array([[10.0, 10.0, 20.0, 20.0]])
    >>> evaluator = VocEvaluator({1: "cat"})
    >>> truth = ObjectRows(one, one, box, np.array([441.0]), crowd=no, ignored=no)
    >>> found = DetectionRows(one, one, np.array([0.9]), box, np.array([441.0]))
    >>> evaluator.update([1], truth, found)
    >>> evaluator.compute()["mAP"]
    1.0

    Boxes are given as left, top, right - left, bottom - top. `ObjectRows.ignored` is ``difficult``.
    Detections of equal score count in order of image id, then as given.

    Args:
        categories: Names by category id.
        iou_threshold: Smallest overlap of a correct detection.
        eleven_point: Whether AP is the mean precision at recalls 0, 0.1, ..., 1 (VOC 2007) instead
            of the area under the curve (VOC 2010 and later).
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
        """``mAP``, and ``per_category``: ``AP``; ``recall`` and ``precision`` of all detections.

        Values are -1 for a category all of whose objects are difficult, or that has none; precision
        also where no detection counts.
        """
        objects, detections = self.rows()
        right, wrong = self._judge(objects, detections)
        order = np.lexsort((detections.images, -detections.scores))
        per_category = {}
        for i, name in zip(self.categories, unique_names(self.categories), strict=True):
            rows = order[detections.categories[order] == i]
            total = int(np.count_nonzero((objects.categories == i) & ~objects.ignored))
            per_category[name] = self._figures(right[rows], wrong[rows], total)
        known = [figures["AP"] for figures in per_category.values() if figures["AP"] >= 0]
        return {"mAP": float(np.mean(known)) if known else -1.0, "per_category": per_category}

    def _judge(
        self, objects: ObjectRows, detections: DetectionRows
    ) -> tuple[Bool[np.ndarray, " d"], Bool[np.ndarray, " d"]]:
        """Which detections are correct, and which are wrong; ignored ones are neither."""
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

    def _figures(
        self, right: Bool[np.ndarray, " d"], wrong: Bool[np.ndarray, " d"], total: int
    ) -> dict[str, float]:
        """The figures of one category with `total` objects; detections are sorted by score."""
        if not total:
            return {"AP": -1.0, "recall": -1.0, "precision": -1.0}
        true, false = np.cumsum(right), np.cumsum(wrong)
        counted = np.maximum(true + false, 1)
        recall, precision = true / total, true / counted
        ap = eleven_point_ap if self.eleven_point else area_ap
        return {
            "AP": ap(recall, precision),
            "recall": float(recall[-1]) if len(recall) else 0.0,
            "precision": float(precision[-1]) if right.any() or wrong.any() else -1.0,
        }


def eleven_point_ap(recall: Float[np.ndarray, " d"], precision: Float[np.ndarray, " d"]) -> float:
    """Mean over eleven recalls of the highest precision at that recall or a higher one."""
    best = [precision[recall >= r].max(initial=0) for r in ELEVEN_RECALLS]
    return float(np.mean(best))


def area_ap(recall: Float[np.ndarray, " d"], precision: Float[np.ndarray, " d"]) -> float:
    """Area under the curve of the highest precision at each recall or a higher one."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * envelope))


def _nearest(
    objects: ObjectRows, detections: DetectionRows
) -> tuple[Float[np.ndarray, " d"], Int[np.ndarray, " d"]]:
    """Largest overlap of each detection, and the row of that object, the first of equal ones."""
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


def _inclusive_iou(
    a: Float[np.ndarray, "p 4"], b: Float[np.ndarray, "p 4"]
) -> Float[np.ndarray, " p"]:
    """IoU of boxes whose corners are whole pixels, both included."""
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    sides = np.maximum(high - low + 1, 0)
    inter = sides.prod(axis=1)
    return inter / ((a[:, 2:] + 1).prod(axis=1) + (b[:, 2:] + 1).prod(axis=1) - inter)
