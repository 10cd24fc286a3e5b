"""Panoptic quality (arXiv 1801.00868) as COCO's panopticapi computes it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Int, Integer

from eval.coco import unique_names

VOID = 0  # segment id of pixels without a label


class Segment(NamedTuple):
    """A segment of one image.

    Attributes:
        id: The value of its pixels in the id map; not 0.
        category: Category id.
        crowd: For true segments: it matches nothing, and a prediction that is mostly inside it does
            not count as wrong.
        area: For true segments: number of pixels; counted in the map if None.
    """

    id: int
    category: int
    crowd: bool = False
    area: int | None = None


class PanopticQuality:
    """PQ, SQ and RQ over all categories, things and stuff.

    A true and a predicted segment of one category match if their IoU is above a half; pixels that
    are void in the truth do not count. As in panopticapi, if an image has several crowds of one
    category, only the last one excuses predictions. The state is plain counts and lists: it can be
    pickled, and results depend neither on batches, nor on their order, nor on the number of
    processes.

    >>> ids = np.array([[1, 1, 2, 2]])
    >>> segments = [Segment(1, category=7), Segment(2, category=9)]
    >>> quality = PanopticQuality({7: "cat", 9: "sky"}, things=[7])
    >>> quality.update(ids, segments, ids, segments)
    >>> quality.compute()["PQ"]
    1.0

    Args:
        categories: Names by id.
        things: Ids of the categories of things; the others are stuff.
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
            ValueError: If the maps have different shapes, the predicted map and the predicted
                segments do not agree, or a category is unknown.
        """
        if target.shape != prediction.shape:
            raise ValueError(f"target of {target.shape} but prediction of {prediction.shape}")
        pixels = _count_pixels(target, prediction)
        self._check(target_segments, predicted_segments, pixels.column)
        matched, crowds = set(), {}
        for segment in target_segments:
            if segment.crowd:
                crowds[segment.category] = segment
                continue
            partner = self._partner(segment, predicted_segments, pixels)
            if partner is None:
                self._missed[segment.category] += 1
            else:
                matched.add(partner)
        for segment in predicted_segments:
            if segment.id in matched:
                continue
            n = pixels.column[segment.id]
            crowd = crowds.get(segment.category)
            excused = pixels.void[n]
            if crowd is not None and crowd.id in pixels.row:
                excused += pixels.common[pixels.row[crowd.id], n]
            if excused / pixels.found_areas[n] <= 0.5:
                self._wrong[segment.category] += 1

    def _partner(
        self, segment: Segment, candidates: Sequence[Segment], pixels: "_Pixels"
    ) -> int | None:
        """Id of the prediction that matches a true segment, or None; records their IoU.

        At most one of the candidates, the predicted segments, can match.
        """
        if segment.id not in pixels.row:
            return None
        row = pixels.row[segment.id]
        area = pixels.target_areas[row] if segment.area is None else segment.area
        for other in candidates:
            n = pixels.column[other.id]
            shared = pixels.common[row, n]
            if other.category != segment.category or not shared:
                continue
            iou = shared / (pixels.found_areas[n] + area - shared - pixels.void[n])
            if iou > 0.5:
                self._ious[segment.category].append(float(iou))
                return other.id
        return None

    def _check(
        self,
        target: Sequence[Segment],
        predicted: Sequence[Segment],
        found: Iterable[int],
    ) -> None:
        """Raises ValueError if the segments of an image are unusable; `found` has the drawn ids."""
        for kind, segments in (("true", target), ("predicted", predicted)):
            ids = [segment.id for segment in segments]
            if len(set(ids)) < len(ids):
                raise ValueError(f"{kind} segment ids given twice")
            for segment in segments:
                if segment.category not in self.categories:
                    raise ValueError(f"{kind} segment {segment.id}: no category {segment.category}")
        listed = {segment.id for segment in predicted}
        drawn = set(found) - {VOID}
        if lost := sorted(listed - drawn):
            raise ValueError(f"predicted segments without pixels: {lost[:3]}")
        if strange := sorted(drawn - listed):
            raise ValueError(f"predicted pixels of segments that are not listed: {strange[:3]}")

    def merge(self, other: Self) -> None:
        """Adds everything that another process collected."""
        for category in self.categories:
            self._ious[category] += other._ious[category]
            self._wrong[category] += other._wrong[category]
            self._missed[category] += other._missed[category]

    def compute(self) -> dict[str, object]:
        """``PQ SQ RQ``, the same with suffixes ``_things`` and ``_stuff``, and ``per_category``.

        Values are 0 to 1; -1 where there is neither a true segment nor a wrong prediction.
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


class _Pixels(NamedTuple):
    """Numbers of pixels in the two id maps of an image.

    Attributes:
        row: Place of each true id in the arrays.
        column: Place of each predicted id in the arrays.
        target_areas: Pixels of each true id.
        found_areas: Pixels of each predicted id.
        common: Pixels that each true id and each predicted id share.
        void: Pixels of each predicted id that are void in the truth.
    """

    row: dict[int, int]
    column: dict[int, int]
    target_areas: Int[np.ndarray, " s"]
    found_areas: Int[np.ndarray, " p"]
    common: Int[np.ndarray, "s p"]
    void: Int[np.ndarray, " p"]


def _count_pixels(
    target: Integer[np.ndarray, "h w"], prediction: Integer[np.ndarray, "h w"]
) -> _Pixels:
    target_ids, target_areas, true = _index(target)
    found_ids, found_areas, found = _index(prediction)
    shape = len(target_ids), len(found_ids)
    common = np.bincount(true * shape[1] + found, minlength=shape[0] * shape[1]).reshape(shape)
    row = {int(i): n for n, i in enumerate(target_ids)}
    column = {int(i): n for n, i in enumerate(found_ids)}
    void = common[row[VOID]] if VOID in row else np.zeros(len(found_ids), int)
    return _Pixels(row, column, target_areas, found_areas, common, void)


def _index(
    ids: Integer[np.ndarray, "h w"],
) -> tuple[Integer[np.ndarray, " s"], Int[np.ndarray, " s"], Int[np.ndarray, " hw"]]:
    """The ids in a map, the number of pixels of each, and the place of each pixel's id in them."""
    different, position, counts = np.unique(ids.ravel(), return_inverse=True, return_counts=True)
    return different, counts, position
