"""Computes COCO's precision, recall and score arrays from matched detections."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt64

from eval.matching import Matched, Settings
from eval.records import DetectionRows, ObjectRows
from zoo.ops.ragged import lengths_to_offsets

RECALLS = np.linspace(0, 1, 101)


@dataclasses.dataclass(frozen=True)
class Curves:
    """Interpolated precision, by threshold t, recall r, category k, area range a and maximum m.

    Values are -1 where a category has no object that counts.

    Attributes:
        precision: Highest precision at each recall of `RECALLS` or beyond.
        recall: Highest recall reached.
        scores: Score at which each recall is reached; 0 where it is not.
    """

    precision: Float[np.ndarray, "t r k a m"]
    recall: Float[np.ndarray, "t k a m"]
    scores: Float[np.ndarray, "t r k a m"]


def accumulate(
    objects: ObjectRows,
    detections: DetectionRows,
    matched: Matched,
    categories: Int[np.ndarray, " k"],
    settings: Settings,
    max_detections: tuple[int | None, ...],
) -> Curves:
    """Precision over recall of every category, for each limit on the detections of an image.

    Args:
        objects: As given to `match`.
        detections: As given to `match`.
        matched: What `match` returned.
        categories: Sorted ids; the category axis.
        settings: As given to `match`.
        max_detections: Number of detections of an image and category that count; None for all.
    """
    t, k, a = len(settings.thresholds), len(categories), len(settings.areas)
    precision = np.full((t, len(RECALLS), k, a, len(max_detections)), -1.0)
    scores = precision.copy()
    recall = np.full((t, k, a, len(max_detections)), -1.0)
    positives = _positives(objects, matched, categories, settings)
    sorted_categories = detections.categories[matched.rows]
    low = np.searchsorted(sorted_categories, categories, side="left")
    high = np.searchsorted(sorted_categories, categories, side="right")
    for i in np.flatnonzero(positives.any(axis=1)):
        part = slice(low[i], high[i])
        score = detections.scores[matched.rows[part]]
        order = np.argsort(-score, kind="stable")
        score = score[order]
        matches, ignored = matched.matched[part][order], matched.ignored[part][order]
        ranks = matched.ranks[part][order]
        for m, most in enumerate(max_detections):
            kept = slice(None) if most is None else ranks < most
            curve = _curve(matches[kept], ignored[kept], score[kept], positives[i], settings)
            for out, values in zip((precision, recall, scores), curve, strict=True):
                out[..., i, :, m] = values
    return Curves(precision, recall, scores)


def _positives(
    objects: ObjectRows, matched: Matched, categories: Int[np.ndarray, " k"], settings: Settings
) -> Int[np.ndarray, "k a"]:
    """Number of objects that count, of each category in each area range."""
    which = np.searchsorted(categories, objects.categories)
    first_bits = np.arange(len(settings.areas)) * len(settings.thresholds)
    counts = [
        np.bincount(which[matched.objects_ignored >> np.uint64(bit) & np.uint64(1) == 0],
                    minlength=len(categories))
        for bit in first_bits
    ]  # fmt: skip
    return np.stack(counts, axis=-1)


def unpack(words: UInt64[np.ndarray, " n"], bits: int) -> UInt8[np.ndarray, "bits n"]:
    """The lowest `bits` of each word, as 0 or 1."""
    octets = words[:, None].view(np.uint8)
    return np.ascontiguousarray(np.unpackbits(octets, axis=1, bitorder="little")[:, :bits].T)


def _curve(
    matched: UInt64[np.ndarray, " d"],
    ignored: UInt64[np.ndarray, " d"],
    scores: Float[np.ndarray, " d"],
    positives: Int[np.ndarray, " a"],
    settings: Settings,
) -> tuple[Float[np.ndarray, "t r a"], Float[np.ndarray, "t a"], Float[np.ndarray, "t r a"]]:
    """Precision, recall and score of one category.

    Precision rises at true positives and falls between them, so its running maximum from the right
    is always at a true positive; and each recall is first reached at a true positive.
    """
    shape = (len(settings.areas), len(settings.thresholds))
    row, position = np.nonzero(unpack(matched & ~ignored, settings.bits))
    true = np.bincount(row, minlength=settings.bits)
    nth = np.arange(len(row)) - np.repeat(lengths_to_offsets(true)[:-1], true)
    counted = np.cumsum(unpack(~ignored, settings.bits), axis=1, dtype=np.int32)
    found = nth + 1.0
    false = counted[row, position] - found
    best = np.zeros((settings.bits, true.max() + 1))
    best[row, nth] = found / (false + found + np.spacing(1))
    best = np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1].reshape(*shape, -1)
    score_at = np.zeros((settings.bits, true.max() + 1))
    score_at[row, nth] = scores[position]
    score_at = score_at.reshape(*shape, -1)
    precision, reached_at = np.empty((2, *shape, len(RECALLS)))
    for a, total in enumerate(positives):
        # The true positive at which each recall is reached, as a column; the last column is zeros.
        needed = np.searchsorted(np.arange(1, total + 1) / max(total, 1), RECALLS, side="left")
        column = np.minimum(needed, best.shape[-1] - 1)
        precision[a] = best[a][:, column]
        reached_at[a] = score_at[a][:, column]
    # Recall 0 is reached at the first detection, right or wrong.
    reached_at[..., 0] = scores[0] if len(scores) else 0
    recall = true.reshape(shape) / np.maximum(positives, 1)[:, None]
    absent = positives == 0
    for values in (precision, reached_at, recall):
        values[absent] = -1
    return precision.transpose(1, 2, 0), recall.T, reached_at.transpose(1, 2, 0)
