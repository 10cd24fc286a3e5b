"""Panoptic quality (arXiv 1801.00868) as COCO's panopticapi computes it."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Integer

from eval.coco import unique_names

VOID = 0  # segment id of pixels without label


class Segment(NamedTuple):
    """A segment of one image.

    Attributes:
        id: Its value in the id map, not 0.
        category: Category id.
        crowd: True segments only: matches nothing, and predictions mostly inside are not wrong.
        area: True segments only: pixels; counted in the map if None.
    """

    id: int
    category: int
    crowd: bool = False
    area: int | None = None


class PanopticQuality:
    """PQ, SQ and RQ over all categories, things and stuff.

    A true and a predicted segment of one category match if their IoU, pixels void in the truth
    aside, is above a half. As in panopticapi, of several crowds of one category in an image only
    the last shields predictions. Plain counts and lists: it pickles, and results depend neither on
    batches, nor on their order, nor on the number of processes.

    >>> ids = np.array([[1, 1, 2, 2]])
    >>> segments = [Segment(1, category=7), Segment(2, category=9)]
    >>> quality = PanopticQuality({7: "cat", 9: "sky"}, things=[7])
    >>> quality.update(ids, segments, ids, segments)
    >>> quality.compute()["PQ"]
    1.0

    Args:
        categories: Names by id.
        things: Ids of the categories that are things; the others are stuff.
    """

    def __init__(self, categories: Mapping[int, str], things: Sequence[int]) -> None:
        self.categories = dict(sorted(categories.items()))
        self.things = frozenset(things)
        self._ious: defaultdict[int, list[float]] = defaultdict(list)
        self._wrong = dict.fromkeys(self.categories, 0)
        self._missed = dict.fromkeys(self.categories, 0)

    def update(
        self,
        target: Integer[np.ndarray, "h w"],
        target_segments: Sequence[Segment],
        prediction: Integer[np.ndarray, "h w"],
        predicted_segments: Sequence[Segment],
    ) -> None:
        """Adds one image.

        Args:
            target: Segment id of each pixel; ids that are not in `target_segments` match nothing.
            target_segments: The true segments.
            prediction: Segment id of each pixel.
            predicted_segments: The predicted segments.

        Raises:
            ValueError: If map and segments of the prediction differ, or a category is unknown.
        """
        if target.shape != prediction.shape:
            raise ValueError(f"target of {target.shape} but prediction of {prediction.shape}")
        target_ids, target_areas, true = _index(target)
        found_ids, found_areas, found = _index(prediction)
        self._check(target_segments, predicted_segments, found_ids)
        common = np.bincount(
            true * len(found_ids) + found, minlength=len(target_ids) * len(found_ids)
        ).reshape(len(target_ids), len(found_ids))
        row = {int(i): n for n, i in enumerate(target_ids)}
        column = {int(i): n for n, i in enumerate(found_ids)}
        void = common[row[VOID]] if VOID in row else np.zeros(len(found_ids), int)
        matched = set()
        crowds = {}
        for segment in target_segments:
            if segment.crowd:
                crowds[segment.category] = segment
                continue
            partner = None
            if segment.id in row:
                shared = common[row[segment.id]]
                area = target_areas[row[segment.id]] if segment.area is None else segment.area
                partner = self._partner(
                    segment, predicted_segments, column, area, shared, found_areas, void
                )
            if partner is None:
                self._missed[segment.category] += 1
            else:
                matched.add(partner)
        for segment in predicted_segments:
            if segment.id in matched:
                continue
            excused = void[column[segment.id]]
            crowd = crowds.get(segment.category)
            if crowd is not None and crowd.id in row:
                excused += common[row[crowd.id], column[segment.id]]
            if excused / found_areas[column[segment.id]] <= 0.5:
                self._wrong[segment.category] += 1

    def _partner(
        self,
        segment: Segment,
        candidates: Sequence[Segment],
        column: Mapping[int, int],
        area: int,
        shared: np.ndarray,
        found_areas: np.ndarray,
        void: np.ndarray,
    ) -> int | None:
        """Id of the prediction that matches a true segment; at most one can. Notes their IoU."""
        for other in candidates:
            n = column[other.id]
            if other.category != segment.category or not shared[n]:
                continue
            iou = shared[n] / (found_areas[n] + area - shared[n] - void[n])
            if iou > 0.5:
                self._ious[segment.category].append(float(iou))
                return other.id
        return None

    def _check(
        self, target: Sequence[Segment], predicted: Sequence[Segment], found: np.ndarray
    ) -> None:
        for kind, segments in (("true", target), ("predicted", predicted)):
            ids = [segment.id for segment in segments]
            if len(set(ids)) < len(ids):
                raise ValueError(f"{kind} segment ids given twice")
            for segment in segments:
                if segment.category not in self.categories:
                    raise ValueError(f"{kind} segment {segment.id}: no category {segment.category}")
        listed = {segment.id for segment in predicted}
        drawn = {int(i) for i in found} - {VOID}
        if lost := sorted(listed - drawn):
            raise ValueError(f"predicted segments without pixels: {lost[:3]}")
        if strange := sorted(drawn - listed):
            raise ValueError(f"predicted pixels of segments that are not listed: {strange[:3]}")

    def merge(self, other: Self) -> None:
        """Adds what another process gathered."""
        for category in self.categories:
            self._ious[category] += other._ious[category]
            self._wrong[category] += other._wrong[category]
            self._missed[category] += other._missed[category]

    def compute(self) -> dict[str, object]:
        """``PQ SQ RQ`` and the same with suffix ``_things``, ``_stuff``; ``per_category``.

        0 to 1; -1 where there is neither a true segment nor a wrong prediction.
        """
        rows = {}
        for category in self.categories:
            ious = self._ious[category]
            weight = len(ious) + 0.5 * (self._wrong[category] + self._missed[category])
            total = math.fsum(ious)
            rows[category] = {
                "PQ": total / weight if weight else -1.0,
                "SQ": (total / len(ious) if ious else 0.0) if weight else -1.0,
                "RQ": len(ious) / weight if weight else -1.0,
            }
        figures: dict[str, object] = {}
        for suffix, chosen in (
            ("", set(self.categories)),
            ("_things", self.things),
            ("_stuff", set(self.categories) - self.things),
        ):
            known = [row for i, row in rows.items() if i in chosen and row["PQ"] >= 0]
            for key in ("PQ", "SQ", "RQ"):
                mean = math.fsum(row[key] for row in known) / len(known) if known else -1.0
                figures[key + suffix] = mean
        names = unique_names(self.categories)
        return {**figures, "per_category": dict(zip(names, rows.values(), strict=True))}


def _index(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different ids, their pixel counts, and the position of each pixel's id among them."""
    different, position, counts = np.unique(ids.ravel(), return_inverse=True, return_counts=True)
    return different, counts, position
