"""A detector's mistakes: precision and recall at a score, confusions, the worst cases."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from eval.average_precision import unpack
from eval.coco import CocoEvaluator, unique_names
from eval.matching import Matched, Settings, match_detections
from eval.records import DetectionRows, ObjectRows, take


class Curve(NamedTuple):
    """Precision and recall of one category after each detection that counts, best first."""

    recall: Float[np.ndarray, " d"]
    precision: Float[np.ndarray, " d"]
    scores: Float[np.ndarray, " d"]
    num_objects: int

    def at(self, score: float) -> dict[str, float]:
        """``precision`` and ``recall`` of the detections with at least this score.

        Precision is -1 if there is no such detection, recall if there is no object.
        """
        n = int(np.count_nonzero(self.scores >= score))
        return {
            "precision": float(self.precision[n - 1]) if n else -1.0,
            "recall": float(self.recall[n - 1]) if n else 0.0 if self.num_objects else -1.0,
        }


def raw_curves(
    evaluator: CocoEvaluator,
    iou: float = 0.5,
    matches: tuple[ObjectRows, DetectionRows, Matched] | None = None,
) -> dict[str, Curve]:
    """Precision and recall of every category by name: not interpolated, over all areas.

    Args:
        evaluator: An evaluator with objects and detections.
        iou: One of its overlap thresholds.
        matches: What its `match` returned; computed if None.

    Raises:
        ValueError: If the evaluator has no such overlap threshold.
    """
    thresholds = evaluator.settings.thresholds
    near = np.flatnonzero(np.isclose(thresholds, iou))
    if not len(near):
        raise ValueError(
            f"no IoU threshold {iou}; there are {', '.join(f'{t:.2f}' for t in thresholds)}"
        )
    objects, detections, matched = matches or evaluator.match()
    bit = int(near[0])
    counts = unpack(~matched.ignored, bit + 1)[bit] == 1
    counts &= matched.ranks < evaluator.official_max
    rows, right = matched.rows[counts], unpack(matched.matched, bit + 1)[bit][counts]
    positive = unpack(~matched.objects_ignored, bit + 1)[bit] == 1
    curves = {}
    for i, name in zip(evaluator.categories, unique_names(evaluator.categories), strict=True):
        own = detections.categories[rows] == i
        scores = detections.scores[rows[own]]
        order = np.argsort(-scores, kind="stable")
        true = np.cumsum(right[own][order])
        total = int(np.count_nonzero(positive & (objects.categories == i)))
        recall = true / total if total else np.full(len(true), -1.0)
        curves[name] = Curve(recall, true / np.arange(1, len(true) + 1), scores[order], total)
    return curves


@dataclasses.dataclass(frozen=True)
class Mistakes:
    """Detections with at least some score, matched to objects of any category.

    Attributes:
        matrix: Counts of true category by predicted category, in order of id. The last row counts
            detections without an object, the last column missed objects.
        objects: The objects that were matched, without crowds.
        detections: The detections that were matched.
        misses: Rows of the missed objects, largest first.
        false_positives: Rows of wrong and duplicate detections, highest score first.
    """

    matrix: Int[np.ndarray, "k+1 k+1"]
    objects: ObjectRows
    detections: DetectionRows
    misses: Int[np.ndarray, " m"]
    false_positives: Int[np.ndarray, " f"]


def mistakes(evaluator: CocoEvaluator, score: float = 0.5, iou: float = 0.5) -> Mistakes:
    """Matches detections to objects of any category, best score first.

    Ignored objects, and the detections that match them, are left out. A detection with another
    category than its object is a false positive, but the object is not a miss.
    """
    objects, detections = evaluator.rows()
    detections = take(detections, detections.scores >= score)
    alike = dataclasses.replace(objects, categories=np.zeros_like(objects.categories))
    found_alike = dataclasses.replace(detections, categories=np.zeros_like(detections.categories))
    settings = Settings((iou,), ((0.0, np.inf),))
    matched = match_detections(alike, found_alike, evaluator.overlap, settings, None)
    ids = np.fromiter(evaluator.categories, np.int64)
    counts = matched.ignored == 0
    rows, found = matched.rows[counts], matched.found[counts]
    predicted = np.searchsorted(ids, detections.categories[rows])
    truth = np.where(found < 0, len(ids), np.searchsorted(ids, objects.categories)[found]
                     if len(objects) else len(ids))  # fmt: skip
    wanted = matched.objects_ignored == 0
    missed = np.flatnonzero(wanted & (matched.objects_matched == 0))
    matrix = np.zeros((len(ids) + 1, len(ids) + 1), np.int64)
    np.add.at(matrix, (truth, predicted), 1)
    np.add.at(matrix[:, -1], np.searchsorted(ids, objects.categories[missed]), 1)
    wrong = rows[truth != predicted]
    return Mistakes(
        matrix,
        objects,
        detections,
        missed[np.argsort(-objects.areas[missed], kind="stable")],
        wrong[np.argsort(-detections.scores[wrong], kind="stable")],
    )
