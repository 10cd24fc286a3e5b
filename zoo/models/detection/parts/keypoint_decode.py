"""Groups of points as candidates for detections, and their soft suppression.

Reference: the code of CornerNet's authors. Deviations: the overlap of boxes has no additional
pixel, as in mmdet; a box whose lowered score is too small is left out, where theirs puts a copy of
another box in its place.
"""

from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int

from zoo.models.detection.parts.samples import take
from zoo.ops.nms import soft_nms
from zoo.outputs import Detections


class Candidates(NamedTuple):
    """Boxes that groups of points make, best first.

    Attributes:
        boxes: ``xyxy`` in pixels of the padded batch.
        scores: Of the groups.
        labels: Their class.
        good: False for filling: points that do not belong together.
    """

    boxes: Float[Array, "b n 4"]
    scores: Float[Array, "b n"]
    labels: Int[Array, "b n"]
    good: Bool[Array, "b n"]


def suppress_softly(
    found: Candidates, sigma: float, score_threshold: float, most: int
) -> tuple[Detections, Int[Array, "b most"]]:
    """Lowers the scores of boxes that overlap better ones of their class, and takes the best.

    Args:
        found: The candidates.
        sigma: See `soft_nms`.
        score_threshold: Only lowered scores above this.
        most: Largest number of detections.

    Returns:
        The detections, best first, and the number of the candidate of each.
    """
    scores = soft_nms(found.boxes, found.scores, sigma, None, found.labels, found.good)
    scores, index = jax.lax.top_k(scores, min(most, scores.shape[1]))
    boxes, labels, good = (take(x, index) for x in (found.boxes, found.labels, found.good))
    return Detections(boxes, scores, labels, good & (scores > score_threshold)), index
