"""Non-maximum suppression with static shapes, exact.

`nms` keeps the boxes that torchvision's ``nms`` and ``batched_nms`` keep, as a mask over the input.
The result of greedy suppression is the only solution of this rule: a box is kept if and only if no
better box that is kept overlaps it. Starting with all boxes kept and applying the rule repeatedly
reaches that solution, after as many rounds as the longest chain of boxes that suppress one another.
All images of a batch go through the rounds together.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, UInt32

from zoo.ops import boxes as box_ops

_WORD = 32  # bits in a word
_Round = tuple[Bool[Array, "*b n"], Bool[Array, ""]]  # boxes kept; whether they changed
_Scored = tuple[Float[Array, "*b n"], Bool[Array, "*b n"]]  # scores; whether they are final


def nms(
    boxes: Float[Array, "*b n 4"] | Integer[Array, "*b n 4"],
    scores: Float[Array, "*b n"],
    iou_threshold: float | Float[Array, ""],
    classes: Int[Array, "*b n"] | None = None,
    valid: Bool[Array, "*b n"] | None = None,
) -> Bool[Array, "*b n"]:
    """Keeps the best box of every cluster of overlapping boxes.

    In order of falling score (of equal scores, the earlier box first), a box is kept unless its IoU
    with a kept box is above the threshold.

    >>> boxes = jnp.array([[0.0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30]])
    >>> scores = jnp.array([0.6, 0.9, 0.5])
    >>> nms(boxes, scores, iou_threshold=0.5).tolist()
    [False, True, True]

    Args:
        boxes: xyxy, any unit; integers are converted to float32.
        scores: Higher is better.
        iou_threshold: 0 to 1; an IoU equal to it does not suppress. A number is compared in double
            precision, as torchvision does; an array is compared in the precision of the boxes.
        classes: Boxes of different classes do not suppress each other; all do by default.
        valid: False for padding, which is never kept and suppresses nothing.

    Returns:
        True for the boxes to keep. `select` turns the mask into indices of a fixed number.
    """
    n = scores.shape[-1]
    if not jnp.issubdtype(boxes.dtype, jnp.floating):
        boxes = jnp.asarray(boxes, jnp.float32)
    boxes, scores, classes, valid = _fill_words(boxes, scores, classes, valid)
    order = jnp.argsort(-scores, axis=-1, stable=True)
    ranked = jnp.take_along_axis(boxes, order[..., None], axis=-2)
    suppresses = _better_overlaps(ranked, iou_threshold)
    if classes is not None:
        classes = jnp.take_along_axis(classes, order, axis=-1)
        suppresses &= classes[..., :, None] == classes[..., None, :]
    kept = _fixed_point(_pack(suppresses), jnp.take_along_axis(valid, order, axis=-1))
    places = jnp.argsort(order, axis=-1)
    return jnp.take_along_axis(kept, places, axis=-1)[..., :n]


def _fill_words(
    boxes: Float[Array, "*b n 4"],
    scores: Float[Array, "*b n"],
    classes: Int[Array, "*b n"] | None,
    valid: Bool[Array, "*b n"] | None,
) -> tuple[
    Float[Array, "*b w 4"], Float[Array, "*b w"], Int[Array, "*b w"] | None, Bool[Array, "*b w"]
]:
    """Pads the arguments with invalid boxes, to a multiple of 32 boxes."""
    missing = -scores.shape[-1] % _WORD
    ends = [(0, 0)] * (scores.ndim - 1) + [(0, missing)]
    valid = jnp.ones(scores.shape, bool) if valid is None else valid
    return (
        jnp.pad(boxes, [*ends, (0, 0)]),
        jnp.pad(scores, ends),
        None if classes is None else jnp.pad(classes, ends),
        jnp.pad(valid, ends),
    )


def _better_overlaps(
    boxes: Float[Array, "*b n 4"], iou_threshold: float | Float[Array, ""]
) -> Bool[Array, "*b n n"]:
    """Whether box i (rows) is better than box j and overlaps it above the threshold."""
    rank = jnp.arange(boxes.shape[-2])
    return (box_ops.iou(boxes, boxes) > _limit(iou_threshold, boxes.dtype)) & (rank[:, None] < rank)


def _limit(
    iou_threshold: float | Float[Array, ""], dtype: np.dtype
) -> Float[Array, ""] | Float[np.ndarray, ""] | np.floating:
    """The threshold in the dtype of the IoU."""
    if isinstance(iou_threshold, jax.Array):
        return iou_threshold.astype(dtype)
    limit = np.asarray(iou_threshold, dtype)
    if float(limit) > iou_threshold:  # equal to comparing in double precision
        limit = np.nextafter(limit, np.asarray(0, dtype))
    return limit


def _pack(bits: Bool[Array, "*b n m"]) -> UInt32[Array, "*b w m"]:
    """Packs every 32 rows into one row of words.

    Packing rows is 12 times as fast on a CPU as packing columns, because XLA vectorises the sum.
    """
    *batch, n, m = bits.shape
    words = bits.reshape(*batch, n // _WORD, _WORD, m).astype(jnp.uint32)
    return (words << jnp.arange(_WORD, dtype=jnp.uint32)[:, None]).sum(axis=-2, dtype=jnp.uint32)


def _fixed_point(
    suppressors: UInt32[Array, "*b w n"], allowed: Bool[Array, "*b n"]
) -> Bool[Array, "*b n"]:
    """Keeps the allowed boxes that no kept box suppresses; see the module's first lines."""

    def settle(state: _Round) -> _Round:
        kept, _ = state
        suppressed = (suppressors & _pack(kept[..., None])).any(axis=-2)
        following = allowed & ~suppressed
        return following, (following != kept).any()

    start = allowed, jnp.array(True)
    return jax.lax.while_loop(lambda state: state[1], settle, start)[0]


def select(
    kept: Bool[Array, "*b n"], scores: Float[Array, "*b n"], max_boxes: int
) -> tuple[Int[Array, "*b k"], Bool[Array, "*b k"]]:
    """Indices of the best kept boxes, best first, a fixed number of them.

    >>> kept, scores = jnp.array([False, True, True]), jnp.array([0.9, 0.5, 0.6])
    >>> [part.tolist() for part in select(kept, scores, max_boxes=3)]
    [[2, 1, 0], [True, True, False]]

    Args:
        kept: What `nms` returned.
        scores: As given to `nms`.
        max_boxes: k, at most n.

    Returns:
        Indices into the n boxes, and True where the index is of a kept box, not filling.
    """
    ranked = jnp.argsort(jnp.where(kept, -scores, jnp.inf), axis=-1, stable=True)[..., :max_boxes]
    return ranked, jnp.take_along_axis(kept, ranked, axis=-1)


def soft_nms(
    boxes: Float[Array, "*b n 4"],
    scores: Float[Array, "*b n"],
    sigma: float = 0.5,
    iou_threshold: float | None = None,
    classes: Int[Array, "*b n"] | None = None,
    valid: Bool[Array, "*b n"] | None = None,
) -> Float[Array, "*b n"]:
    """Lowers the scores of boxes that overlap better ones (Soft-NMS, arXiv 1704.04503).

    Repeatedly, the best remaining box is taken, and the scores of the other remaining boxes are
    multiplied by ``exp(-iou^2 / sigma)``; or, if there is a threshold, by ``1 - iou`` where the IoU
    is above it.

    Args:
        boxes: xyxy, any unit.
        scores: At least 0.
        sigma: Width of the Gaussian decay.
        iou_threshold: If given, the decay is linear above it instead of Gaussian.
        classes: Boxes of different classes do not affect each other; all do by default.
        valid: False for padding, whose score becomes 0.

    Returns:
        The lowered scores, in the order of the input.
    """
    overlap = box_ops.iou(boxes, boxes)
    if iou_threshold is None:
        decay = jnp.exp(-(overlap**2) / sigma)
    else:
        decay = jnp.where(overlap > iou_threshold, 1 - overlap, 1.0)
    if classes is not None:
        decay = jnp.where(classes[..., :, None] == classes[..., None, :], decay, 1.0)
    if valid is not None:
        scores = jnp.where(valid, scores, 0)

    def take_best(_: Int[Array, ""], state: _Scored) -> _Scored:
        current, taken = state
        best = jnp.argmax(jnp.where(taken, -jnp.inf, current), axis=-1, keepdims=True)
        taken = taken | (jnp.arange(scores.shape[-1]) == best)
        row = jnp.take_along_axis(decay, best[..., None], axis=-2)[..., 0, :]
        return jnp.where(taken, current, current * row), taken

    start = scores, jnp.zeros(scores.shape, bool)
    return jax.lax.fori_loop(0, scores.shape[-1], take_best, start)[0]
