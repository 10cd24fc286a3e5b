"""Merges what a detector finds in the same images at several scales."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from zoo.ops import boxes as box_ops
from zoo.ops.nms import soft_nms
from zoo.outputs import Detections

SizeRange = tuple[float, float | None]
"""Square roots of the areas of boxes: above the first, at most the second; None: no limit."""


def in_range(boxes: Float[Array, "*b n 4"], sizes: SizeRange) -> Bool[Array, "*b n"]:
    """Whether boxes, ``xyxy``, are of these sizes, in the unit of the boxes.

    >>> in_range(jnp.array([[0.0, 0.0, 8.0, 2.0], [0.0, 0.0, 5.0, 5.0]]), (0.0, 4.0)).tolist()
    [True, False]
    """
    areas, (smallest, largest) = box_ops.area(boxes), sizes
    found = areas > smallest**2
    return found if largest is None else found & (areas <= largest**2)


def rank(
    boxes: Float[Array, "*b n 4"],
    scores: Float[Array, "*b n"],
    labels: Int[Array, "*b n"],
    valid: Bool[Array, "*b n"],
    *,
    sigma: float = 0.55,
    most: int = 200,
    min_score: float = 1e-3,
) -> tuple[Int[Array, "*b r"], Float[Array, "*b r"], Bool[Array, "*b r"]]:
    """The best boxes after soft non-maximum suppression among those of the same class.

    Args:
        boxes: ``xyxy``.
        scores: 0 to 1.
        labels: Classes.
        valid: False for filling.
        sigma: As for `zoo.ops.nms.soft_nms`; SNIPER's is 0.55.
        most: Boxes to keep of an image, r; all, if there are fewer.
        min_score: Boxes whose score becomes lower are dropped.

    Returns:
        Their indices, best first; their lowered scores; and False for filling.
    """
    lowered = soft_nms(boxes, scores, sigma, classes=labels, valid=valid)
    best, index = jax.lax.top_k(lowered, min(most, scores.shape[-1]))
    kept = jnp.take_along_axis(valid, index, axis=-1) & (best >= min_score)
    return index, best, kept


def merge_scales(
    found: Sequence[Detections],
    ranges: Sequence[SizeRange] | None = None,
    *,
    sigma: float = 0.55,
    most: int = 200,
    min_score: float = 1e-3,
) -> Detections:
    """What was found at several scales as one list: SNIPER's way (arXiv 1805.09300, section 4).

    Args:
        found: For each scale, the detections in the same images, boxes in pixels of the original
            images, with `mask_crops` and `keypoints` in all of them or in none.
        ranges: For each scale, the sizes of boxes that count, in these pixels; None counts all.
        sigma: As for `rank`.
        most: As for `rank`.
        min_score: As for `rank`.

    Raises:
        ValueError: If there are `masks` of the input: these have another size for each scale.
    """
    if any(one.masks is not None for one in found):
        raise ValueError("masks of the whole input cannot be merged")
    sizes = ranges or [(0.0, None)] * len(found)
    valid = [
        one.valid & (in_range(one.boxes, limits) if ranges else True)
        for one, limits in zip(found, sizes, strict=True)
    ]
    axis = found[0].valid.ndim - 1
    found = [one.replace(valid=counts) for one, counts in zip(found, valid, strict=True)]
    together: Detections = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis), *found)
    index, scores, kept = rank(
        together.boxes,
        together.scores,
        together.labels,
        together.valid,
        sigma=sigma,
        most=most,
        min_score=min_score,
    )

    def take(values: Array) -> Array:
        return jnp.take_along_axis(
            values, index.reshape(*index.shape, *[1] * (values.ndim - index.ndim)), axis
        )

    return jax.tree.map(take, together).replace(scores=scores, valid=kept)
