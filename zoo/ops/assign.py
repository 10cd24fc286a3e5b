"""Assigns the objects of an image to anchors or proposals by their overlap.

As the ``Matcher`` of torchvision and detectron2 and the ``MaxIoUAssigner`` of mmdet do, for padded
objects and a whole batch. The objects are taken one after another, so that no matrix over all
anchors and objects is held in memory, and padding at the end of the objects costs nothing.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from zoo.ops import boxes as box_ops
from zoo.types import check_choice

LowQuality = Literal["none", "ties", "reassigned_ties", "best", "best_first"]
_State = tuple[Float[Array, "*b n"], Int[Array, "*b n"], Int[Array, "*b n"]]


@dataclasses.dataclass(frozen=True)
class IouRule:
    """Which candidates are positive, negative and ignored.

    Attributes:
        high: A candidate is positive if its largest IoU is at least this.
        low: It is negative if its largest IoU is below this, and ignored if between the two.
        background_floor: It is ignored, not negative, if its largest IoU is below this: 0.1 in
            Fast R-CNN (arXiv 1504.08083).
        low_quality: What happens to the candidates that overlap an object more than all others do,
            so that an object has a positive one even if it overlaps none by `high`:

            - ``none``: nothing;
            - ``ties``: all that have the object's largest IoU become positive, and each keeps the
              object that it overlaps most (torchvision, detectron2);
            - ``reassigned_ties``: they become positive for that object; of several objects, for the
              last one (mmdet);
            - ``best``: the first of them becomes positive for that object; of several objects, for
              the last one (SSD);
            - ``best_first``: the same, but of several objects for the first one (EfficientDet).
        low_quality_floor: Objects with a lower largest IoU get no such candidate: 0.3 in mmdet's
            region proposals.

    Raises:
        ValueError: If a field is out of its range.
    """

    high: float
    low: float
    background_floor: float = 0.0
    low_quality: LowQuality = "none"
    low_quality_floor: float = 0.0

    def __post_init__(self) -> None:
        check_choice("low_quality", self.low_quality, LowQuality)
        if not 0 <= self.background_floor <= self.low <= self.high <= 1:
            raise ValueError(f"0 <= background_floor <= low <= high <= 1 does not hold: {self}")


def assign_by_iou(
    candidates: Float[Array, "*b n 4"],
    truth: Float[Array, "*b m 4"],
    rule: IouRule,
    *,
    truth_valid: Bool[Array, "*b m"] | None = None,
    candidate_valid: Bool[Array, "*b n"] | None = None,
) -> tuple[Int[Array, "*b n"], Int[Array, "*b n"]]:
    """The object of each candidate, and whether it is a positive or negative example.

    An object that overlaps nothing gets no candidate: torchvision and detectron2 would then make
    every candidate positive that has an IoU of 0 with all objects. Without objects, all candidates
    are negative, or ignored if there is a floor for the background. Not differentiable.

    >>> candidates = jnp.array([[0.0, 0, 10, 10], [0, 0, 10, 4], [20, 0, 30, 10]])
    >>> truth = jnp.array([[0.0, 0, 10, 9]])
    >>> [part.tolist() for part in assign_by_iou(candidates, truth, IouRule(0.7, 0.3))]
    [[0, 0, 0], [1, -1, 0]]

    Args:
        candidates: Anchors or proposals, ``xyxy``.
        truth: Objects, ``xyxy`` in the same unit. A degenerate one overlaps nothing.
        rule: Thresholds.
        truth_valid: False for padded objects.
        candidate_valid: False for candidates that are ignored: padding, or anchors that extend
            beyond the image where these are not used.

    Returns:
        Index of the object that the candidate overlaps most, the first of equal ones, or of the one
        it was reassigned to; 0 if there are no objects, so the index is in range even for those.
        And 1 for positive, 0 for negative, -1 for ignored candidates. Both int32.
    """
    candidates, truth = jax.lax.stop_gradient((candidates, truth))
    *batch, m, _ = truth.shape
    n = candidates.shape[-2]
    if m == 0:
        truth = jnp.zeros((*batch, 1, 4), truth.dtype)
        truth_valid, m = jnp.zeros((*batch, 1), bool), 1
    allowed = jnp.ones((*batch, n), bool) if candidate_valid is None else candidate_valid
    valid = jnp.ones((*batch, m), bool) if truth_valid is None else truth_valid

    def take_object(j: Int[Array, ""], state: _State) -> _State:
        best, match, forced = state
        ious = box_ops.iou(candidates, jax.lax.dynamic_slice_in_dim(truth, j, 1, -2))[..., 0]
        ious = jnp.where(jax.lax.dynamic_slice_in_dim(valid, j, 1, -1), ious, -1)
        match = jnp.where(ious > best, j, match)
        if rule.low_quality != "none":
            chosen = _chosen(jnp.where(allowed, ious, -1), rule)
            if rule.low_quality == "best_first":
                chosen &= forced < 0
            forced = jnp.where(chosen, j, forced)
        return jnp.maximum(ious, best), match, forced

    count = jnp.where(valid, jnp.arange(1, m + 1), 0).max(initial=0)  # without padding at the end
    start = jnp.full((*batch, n), -1, candidates.dtype)
    none = jnp.full((*batch, n), -1, jnp.int32)
    best, match, forced = jax.lax.fori_loop(0, count, take_object, (start, none + 1, none))
    label = jnp.where(best >= rule.high, 1, jnp.where(best < rule.low, 0, -1))
    if rule.background_floor > 0:
        label = jnp.where(best < rule.background_floor, -1, label)
    label = jnp.where(forced >= 0, 1, label)
    if rule.low_quality not in ("none", "ties"):
        match = jnp.where(forced >= 0, forced, match)
    return match, jnp.where(allowed, label, -1)


def _chosen(ious: Float[Array, "*b n"], rule: IouRule) -> Bool[Array, "*b n"]:
    """The candidates that one object makes positive, whatever its overlaps."""
    largest = ious.max(axis=-1, keepdims=True, initial=-1)
    enough = (largest > 0) & (largest >= rule.low_quality_floor)
    if rule.low_quality in ("best", "best_first") and ious.shape[-1]:
        first = jnp.argmax(ious, axis=-1, keepdims=True)
        return enough & (jnp.arange(ious.shape[-1]) == first)
    return enough & (ious == largest)


def matched_objects(
    match: Int[Array, "*b n"], positive: Bool[Array, "*b n"], count: int
) -> Bool[Array, "*b m"]:
    """True for objects that at least one positive candidate belongs to.

    >>> match, positive = jnp.array([0, 2, 2]), jnp.array([False, False, True])
    >>> matched_objects(match, positive, 3).tolist()
    [False, False, True]

    Args:
        match: Index of the object of each candidate.
        positive: True for positive candidates.
        count: Number of objects, m.
    """
    own = match[..., None, :] == jnp.arange(count)[:, None]
    return (own & positive[..., None, :]).any(axis=-1)
