"""From matched detections to COCO's precision, recall and score arrays."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from eval.matching import Matched, Settings
from eval.ragged import lengths_to_offsets
from eval.records import Detections, Objects

RECALLS = np.linspace(0, 1, 101)


@dataclasses.dataclass(frozen=True)
class Curves:
    """Interpolated precision by threshold t, recall r, category k, area range a, maximum m.

    -1 where a category has no object that counts.

    Attributes:
        precision: Highest precision at each recall of `RECALLS` or beyond.
        recall: Highest recall reached.
        scores: Score at which each recall is reached; 0 where it is not.
    """

    precision: Float[np.ndarray, "t r k a m"]
    recall: Float[np.ndarray, "t k a m"]
    scores: Float[np.ndarray, "t r k a m"]


def accumulate(
    objects: Objects,
    detections: Detections,
    matched: Matched,
    categories: Int[np.ndarray, " k"],
    settings: Settings,
    max_detections: tuple[int | None, ...],
) -> Curves:
    """Precision over recall of every category, for each number of detections an image.

    Args:
        objects: As given to `match`.
        detections: As given to `match`.
        matched: What `match` returned.
        categories: Sorted ids; the category axis.
        settings: As given to `match`.
        max_detections: Detections of an image and category that count; None for all of them.
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
    objects: Objects, matched: Matched, categories: np.ndarray, settings: Settings
) -> Int[np.ndarray, "k a"]:
    """Objects that count, of each category, in each area range."""
    which = np.searchsorted(categories, objects.categories)
    first_bits = np.arange(len(settings.areas)) * len(settings.thresholds)
    counts = [
        np.bincount(which[matched.objects_ignored >> np.uint64(bit) & np.uint64(1) == 0],
                    minlength=len(categories))
        for bit in first_bits
    ]  # fmt: skip
    return np.stack(counts, axis=-1)


def unpack(words: np.ndarray, bits: int) -> np.ndarray:
    """The lowest `bits` of n words as 0 or 1, ``[bits, n]``."""
    octets = words[:, None].view(np.uint8)
    return np.ascontiguousarray(np.unpackbits(octets, axis=1, bitorder="little")[:, :bits].T)


def _curve(
    matched: np.ndarray,
    ignored: np.ndarray,
    scores: np.ndarray,
    positives: np.ndarray,
    settings: Settings,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and score ``[t, r, a]`` and recall ``[t, a]`` of one category.

    Precision falls between true positives and rises at them, so its running maximum from the
    right is found among them, and each recall is first reached at one.
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
        # Column of the true positive at which each recall is reached; the last column is zeros.
        needed = np.searchsorted(np.arange(1, total + 1) / max(total, 1), RECALLS, side="left")
        column = np.minimum(needed, best.shape[-1] - 1)
        precision[a] = best[a][:, column]
        reached_at[a] = score_at[a][:, column]
    reached_at[..., 0] = scores[0] if len(scores) else 0  # recall 0: the first of any kind
    recall = true.reshape(shape) / np.maximum(positives, 1)[:, None]
    absent = positives == 0
    for values in (precision, reached_at, recall):
        values[absent] = -1
    return precision.transpose(1, 2, 0), recall.T, reached_at.transpose(1, 2, 0)
