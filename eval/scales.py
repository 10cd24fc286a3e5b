"""Detection at several scales of the images, merged: ``--scales`` of `eval.detection`.

SNIPER (arXiv 1805.09300) trains a detector for objects of 32 to 512 pixels or so, and finds others
at another scale of the image. Without ranges it is test-time augmentation for any detector.

Deviation: the reference suppresses nothing before the scales are merged. Here each scale's
detections are what the model gives, after its own suppression.
"""

import argparse
import dataclasses
import re
from collections.abc import Sequence
from functools import partial

import jax
import numpy as np

from eval.coco import CocoEvaluator
from eval.detectors import evaluator
from eval.progress import track
from eval.records import DetectionRows, concatenate, take
from eval.runs import Run
from zoo.data import DetectionData, open_detection
from zoo.ops.ragged import lengths_to_offsets
from zoo.predict.merge import rank
from zoo.types import InputError

_MULTIPLE = 32  # sides of padded images
_AT_A_TIME = 32  # images that are merged together
_NUMBER = r"\d+(?:\.\d*)?"
_SCALE = re.compile(rf"(\d+)x(\d+)(?::({_NUMBER})?-({_NUMBER})?)?")


@dataclasses.dataclass(frozen=True)
class Scale:
    """A scale of the images, and which of the boxes found there count.

    Attributes:
        short_side: The length of the images' shorter side.
        long_side: Maximum length of the longer side.
        smallest: Boxes count if the square root of their area is above this, in pixels of the
            original image.
        largest: And at most this.
    """

    short_side: int
    long_side: int
    smallest: float = 0.0
    largest: float = float("inf")


def parse_scales(text: str) -> tuple[Scale, ...]:
    """Reads ``SHORTxLONG`` or ``SHORTxLONG:SMALLEST-LARGEST``, separated by commas.

    >>> parse_scales("800x1333,480x512:75-")[1]
    Scale(short_side=480, long_side=512, smallest=75.0, largest=inf)

    Raises:
        InputError: If it is something else.
    """
    found = []
    for part in text.split(","):
        parts = _SCALE.fullmatch(part.strip())
        scale = None
        if parts is not None:
            short, long, smallest, largest = parts.groups()
            limits = float(smallest or 0), float(largest or "inf")
            scale = Scale(int(short), int(long), *limits)
        if scale is None or not (scale.short_side and scale.smallest < scale.largest):
            raise InputError(
                f"--scales: {part!r} is not SHORTxLONG, nor SHORTxLONG:SMALLEST-LARGEST as"
                " 800x1280:32-180"
            )
        found.append(scale)
    return tuple(found)


def at_scale(data: DetectionData, scale: Scale) -> DetectionData:
    """The data with images of another scale, and buckets of the same aspects for them."""
    usual = max(data.short_sides, default=min(map(min, data.buckets)))
    buckets = [
        tuple(
            min(_padded(side * scale.short_side / usual), _padded(scale.long_side))
            for side in bucket
        )
        for bucket in data.buckets
    ]
    return dataclasses.replace(
        data,
        buckets=tuple(dict.fromkeys(buckets)),
        short_sides=(scale.short_side,),
        long_side=scale.long_side,
    )


def _padded(side: float) -> int:
    return int(np.ceil(side / _MULTIPLE)) * _MULTIPLE


def collect_scales(
    run: Run[DetectionData], arguments: argparse.Namespace, *, masks: bool
) -> CocoEvaluator:
    """What the model of a run finds at the scales of ``--scales``, merged with ``--soft_nms``.

    Args:
        run: The run.
        arguments: The options of `eval.detection`.
        masks: As for `eval.detectors.collect`.

    Raises:
        InputError: If a scale or the data cannot be used.
    """
    scales, parts = parse_scales(arguments.scales), []
    for scale in scales:
        print(f"images of {scale.short_side} x {scale.long_side} pixels", flush=True)
        data = at_scale(run.data, scale)
        examples = open_detection(data, "eval", class_names=run.class_names, track=track)
        evaluate = evaluator(run.model, data, examples, run.batch_size, run.put, masks=masks)
        parts.append(evaluate(run.variables))
    return merged(parts, scales, arguments.soft_nms)


def merged(parts: Sequence[CocoEvaluator], scales: Sequence[Scale], sigma: float) -> CocoEvaluator:
    """The detections of several scales as those of one, by `zoo.predict.merge.rank`.

    Args:
        parts: What was collected at each scale.
        scales: The scales.
        sigma: Of soft non-maximum suppression.
    """
    objects, _ = parts[0].rows()
    found = []
    for part, scale in zip(parts, scales, strict=True):
        _, detections = part.rows()
        areas = detections.boxes_xywh[:, 2:].prod(axis=1)
        counts = (areas > scale.smallest**2) & (areas <= scale.largest**2)
        found.append(take(detections, counts))
    result = CocoEvaluator(parts[0].categories)
    result.update(parts[0].images, objects, _suppressed(concatenate(found), sigma))
    return result


def _suppressed(found: DetectionRows, sigma: float) -> DetectionRows:
    """The detections of each image that `rank` keeps, with their new scores."""
    if not len(found):
        return found
    order = np.argsort(found.images, kind="stable")
    images, lengths = np.unique(found.images, return_counts=True)
    offsets = lengths_to_offsets(lengths)
    n = -(-int(lengths.max()) // _MULTIPLE) * _MULTIPLE
    corners = found.boxes_xywh.copy()
    corners[:, 2:] += corners[:, :2]
    program = jax.jit(partial(rank, sigma=sigma))
    rows, scores = [], []
    for start in range(0, len(images), _AT_A_TIME):
        number = np.arange(start, start + _AT_A_TIME)[:, None]
        valid = np.arange(n) < np.append(lengths, 0)[np.minimum(number, len(images))]
        place = offsets[np.minimum(number, len(images))] + np.arange(n)
        row = order[np.where(valid, place, 0)]
        index, lowered, kept = jax.device_get(
            program(
                corners[row].astype(np.float32),
                found.scores[row].astype(np.float32),
                found.categories[row],
                valid,
            )
        )
        rows.append(np.take_along_axis(row, index, axis=1)[kept])
        scores.append(lowered[kept])
    chosen = take(found, np.concatenate(rows))
    return dataclasses.replace(chosen, scores=np.concatenate(scores).astype(float))
