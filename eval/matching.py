"""COCO's greedy matching, for all images, categories, thresholds and area ranges at once.

Every setting, a pair of IoU threshold and area range, is one bit of a 64-bit word; `Settings` says
which. So one word says in which settings a detection is matched, or an object is free, and one step
of the algorithm takes a few bitwise operations for all 40 settings. A group is the detections and
objects of one category in one image. Steps in one group depend on each other, but groups do not, so
step s of all groups is done together.
"""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from eval.overlap import Overlap
from eval.records import DetectionRows, ObjectRows
from zoo.ops.ragged import blocks, lengths_to_offsets, spread

_PAIRS_AT_ONCE = 1 << 18
_CAP = 1 - 1e-10  # with this cap, an overlap of 1 passes a threshold of 1 despite rounding


@dataclasses.dataclass(frozen=True)
class Settings:
    """Thresholds and area ranges; bit ``area * len(thresholds) + threshold`` is their pair.

    Attributes:
        thresholds: Smallest overlap of a match, ascending.
        areas: Smallest and largest area of each range, in pixels, both included.
    """

    thresholds: tuple[float, ...]
    areas: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if len(self.thresholds) * len(self.areas) > 64:
            raise ValueError("thresholds times area ranges must be at most 64")
        if list(self.thresholds) != sorted(self.thresholds):
            raise ValueError("thresholds must ascend")

    @property
    def bits(self) -> int:
        """Number of settings."""
        return len(self.thresholds) * len(self.areas)

    def reached(self, overlap: Float[np.ndarray, " p"]) -> UInt64[np.ndarray, " p"]:
        """For each overlap, the settings whose threshold it reaches."""
        least = np.minimum(self.thresholds, _CAP)
        count = len(self.thresholds)
        repeat = sum(1 << count * i for i in range(len(self.areas)))
        words = [repeat * ((1 << n) - 1) for n in range(count + 1)]
        return np.array(words, np.uint64)[np.searchsorted(least, overlap, side="right")]

    def outside(self, areas: Float[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
        """For each area, the settings whose area range it is outside of."""
        words = np.zeros(len(areas), np.uint64)
        for i, (low, high) in enumerate(self.areas):
            word = np.uint64(((1 << len(self.thresholds)) - 1) << i * len(self.thresholds))
            words |= np.where((areas < low) | (areas > high), word, np.uint64(0))
        return words

    @property
    def all(self) -> np.uint64:
        """The word of all settings."""
        return np.uint64((1 << self.bits) - 1)


class Matched(NamedTuple):
    """The result for every detection that takes part, and for every object.

    Detections are sorted by category, image and falling score. Objects keep their order.

    Attributes:
        rows: Row of each detection in the input.
        ranks: Rank of each detection by score, in its image and category; from 0.
        matched: Settings in which each detection is matched to an object.
        ignored: Settings in which each detection does not count.
        objects_ignored: Settings in which each object does not count.
        objects_matched: Settings in which each object is matched; none for crowds.
        found: Row of the object that each detection is matched to at the lowest threshold in the
            first area range; -1 if there is none.
    """

    rows: Int[np.ndarray, " d"]
    ranks: Int[np.ndarray, " d"]
    matched: UInt64[np.ndarray, " d"]
    ignored: UInt64[np.ndarray, " d"]
    objects_ignored: UInt64[np.ndarray, " g"]
    objects_matched: UInt64[np.ndarray, " g"]
    found: Int[np.ndarray, " d"]


class _Candidates(NamedTuple):
    """Pairs that overlap enough for at least one threshold, sorted by detection."""

    detection: Int[np.ndarray, " p"]
    object: Int[np.ndarray, " p"]
    overlap: Float[np.ndarray, " p"]


def group_keys(
    objects: ObjectRows, detections: DetectionRows
) -> tuple[Int[np.ndarray, " g"], Int[np.ndarray, " d"]]:
    """The group of each object and detection: integers that sort by category, then by image."""
    images = np.unique(np.concatenate([objects.images, detections.images]))
    categories = np.unique(np.concatenate([objects.categories, detections.categories]))
    objects_key, detections_key = (
        np.searchsorted(categories, records.categories) * len(images)
        + np.searchsorted(images, records.images)
        for records in (objects, detections)
    )
    return objects_key, detections_key


def match_detections(
    objects: ObjectRows,
    detections: DetectionRows,
    overlap: Overlap,
    settings: Settings,
    max_detections: int | None,
    lenient: Bool[np.ndarray, " d"] | None = None,
) -> Matched:
    """Matches detections, best first, to the objects of their image and category.

    A detection is matched to the free object with the largest overlap (of equal ones, the last), if
    the overlap reaches the threshold; objects that count are preferred to ignored ones. A crowd can
    be matched to any number of detections. An unmatched detection whose area is out of range does
    not count.

    Args:
        objects: Ground truth.
        detections: Predictions.
        overlap: One of `eval.overlap`.
        settings: Thresholds and area ranges.
        max_detections: Number of detections kept for each image and category; None for all.
        lenient: Detections that do not count if unmatched, regardless of their area.
    """
    object_keys, keys = group_keys(objects, detections)
    rows = np.lexsort((-detections.scores, keys))
    keys = keys[rows]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    sizes = np.diff(np.append(first, len(keys)))
    ranks = np.arange(len(keys)) - np.repeat(first, sizes)
    if max_detections is not None:
        kept = ranks < max_detections
        rows, keys, ranks = rows[kept], keys[kept], ranks[kept]
    objects_ignored = settings.outside(objects.areas) | np.where(
        objects.ignored | objects.crowd, settings.all, np.uint64(0)
    )
    pairs = _candidates(objects, object_keys, detections, rows, keys, overlap, settings)
    matched, ignored, objects_matched, found = _greedy(
        pairs, keys[pairs.detection], len(rows), objects.crowd, objects_ignored, settings
    )
    unwanted = settings.outside(detections.areas[rows])
    if lenient is not None:
        unwanted |= np.where(lenient[rows], settings.all, np.uint64(0))
    ignored |= ~matched & unwanted
    return Matched(rows, ranks, matched, ignored, objects_ignored, objects_matched, found)


def _candidates(
    objects: ObjectRows,
    object_keys: Int[np.ndarray, " g"],
    detections: DetectionRows,
    rows: Int[np.ndarray, " d"],
    keys: Int[np.ndarray, " d"],
    overlap: Overlap,
    settings: Settings,
) -> _Candidates:
    """The pairs of equal group that reach the lowest threshold; each detection's best pair first.

    `rows` and `keys` are the row and the group of each detection, sorted by group.
    """
    by_group = np.argsort(object_keys, kind="stable")
    ordered = object_keys[by_group]
    groups, group = np.unique(keys, return_inverse=True)
    start = np.searchsorted(ordered, groups, side="left")
    count = np.searchsorted(ordered, groups, side="right") - start
    start, count = start[group], count[group]
    total = lengths_to_offsets(count)
    least = min(settings.thresholds[0], _CAP)
    found = []
    for part in blocks(total, _PAIRS_AT_ONCE):
        d = np.repeat(np.arange(part.start, part.stop), count[part])
        g = by_group[spread(start[part], count[part])]
        values = overlap(detections, objects, rows[d], g, least)
        near = values >= least
        found.append((d[near], g[near], values[near]))
    d, g, values = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((-g, -values, d))
    return _Candidates(d[order], g[order], values[order])


def _greedy(
    pairs: _Candidates,
    keys: Int[np.ndarray, " p"],
    num_detections: int,
    crowd: Bool[np.ndarray, " g"],
    objects_ignored: UInt64[np.ndarray, " g"],
    settings: Settings,
) -> tuple[
    UInt64[np.ndarray, " d"],
    UInt64[np.ndarray, " d"],
    UInt64[np.ndarray, " g"],
    Int[np.ndarray, " d"],
]:
    """The fields `matched`, `ignored`, `objects_matched` and `found` of `Matched`.

    Every pair is tried twice: first in the settings where its object counts; then, after all first
    tries of the detection, in the settings where it is ignored. `keys` are the groups of the pairs.
    """
    n = len(keys)
    # Tries are in order of group and detection; a detection's second tries follow its first ones.
    sizes = np.bincount(pairs.detection, minlength=num_detections)
    before = lengths_to_offsets(sizes)[pairs.detection]
    place = np.concatenate([np.arange(n) + before, np.arange(n) + before + sizes[pairs.detection]])
    first = np.searchsorted(keys, keys, side="left")
    steps = place - np.tile(2 * first, 2)
    order = np.argsort(steps, kind="stable")
    ends = np.cumsum(np.bincount(steps))
    reached = settings.reached(pairs.overlap)
    ignored_here = objects_ignored[pairs.object]
    allowed = np.concatenate([reached & ~ignored_here, reached & ignored_here])[order]
    detection = np.tile(pairs.detection, 2)[order]
    target = np.tile(pairs.object, 2)[order]
    used_up = np.where(crowd, np.uint64(0), settings.all)[target]
    second_turn = np.where(order >= n, settings.all, np.uint64(0))
    unmatched = np.full(num_detections, settings.all)
    ignored = np.zeros(num_detections, np.uint64)
    free = np.full(len(crowd), settings.all)
    found = np.full(num_detections, -1)
    for low, high in itertools.pairwise([0, *ends]):
        d, g = detection[low:high], target[low:high]
        won = allowed[low:high] & unmatched[d] & free[g]
        unmatched[d] ^= won
        free[g] &= ~(won & used_up[low:high])
        ignored[d] |= won & second_turn[low:high]
        first_won = won & np.uint64(1) != 0
        found[d[first_won]] = g[first_won]
    return unmatched ^ settings.all, ignored, free ^ settings.all, found
