"""Boxes: formats, areas, overlaps, clipping.

Boxes are ``xyxy`` (left, top, right, bottom) in absolute pixels unless a name says otherwise;
``xywh`` is left, top, width, height, and ``cxcywh`` is centre, width, height. Every function takes
any number of leading axes, and works on relative coordinates as well. A box with right <= left or
bottom <= top is degenerate: it has area 0 and overlaps nothing.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def xyxy_to_xywh(boxes: Float[Array, "... 4"]) -> Float[Array, "... 4"]:
    """Left, top, right, bottom to left, top, width, height.

    >>> xyxy_to_xywh(jnp.array([10.0, 20.0, 40.0, 60.0])).tolist()
    [10.0, 20.0, 30.0, 40.0]
    """
    low, high = jnp.split(boxes, 2, axis=-1)
    return jnp.concatenate([low, high - low], axis=-1)


def xywh_to_xyxy(boxes_xywh: Float[Array, "... 4"]) -> Float[Array, "... 4"]:
    """Left, top, width, height to left, top, right, bottom.

    >>> xywh_to_xyxy(jnp.array([10.0, 20.0, 30.0, 40.0])).tolist()
    [10.0, 20.0, 40.0, 60.0]
    """
    low, size = jnp.split(boxes_xywh, 2, axis=-1)
    return jnp.concatenate([low, low + size], axis=-1)


def xyxy_to_cxcywh(boxes: Float[Array, "... 4"]) -> Float[Array, "... 4"]:
    """Left, top, right, bottom to centre, width, height.

    >>> xyxy_to_cxcywh(jnp.array([10.0, 20.0, 40.0, 60.0])).tolist()
    [25.0, 40.0, 30.0, 40.0]
    """
    low, high = jnp.split(boxes, 2, axis=-1)
    return jnp.concatenate([(low + high) / 2, high - low], axis=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Float[Array, "... 4"]) -> Float[Array, "... 4"]:
    """Centre, width, height to left, top, right, bottom.

    >>> cxcywh_to_xyxy(jnp.array([25.0, 40.0, 30.0, 40.0])).tolist()
    [10.0, 20.0, 40.0, 60.0]
    """
    centre, size = jnp.split(boxes_cxcywh, 2, axis=-1)
    return jnp.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def area(boxes: Float[Array, "... 4"]) -> Float[Array, "..."]:
    """Area in square pixels, at least 0."""
    size = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return size[..., 0] * size[..., 1]


def is_valid(boxes: Float[Array, "... 4"]) -> Bool[Array, "..."]:
    """True for finite boxes with right > left and bottom > top."""
    return jnp.isfinite(boxes).all(axis=-1) & (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)


def clip(boxes: Float[Array, "... 4"], height: int, width: int) -> Float[Array, "... 4"]:
    """Clips boxes to an image of `height` x `width` pixels.

    A box that is entirely outside becomes a degenerate one on the border.
    """
    return jnp.clip(boxes, 0, jnp.array([width, height, width, height], boxes.dtype))


def _intersection_and_union(
    a: Float[Array, "... 4"], b: Float[Array, "... 4"]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    # Coordinates are separate arrays, so that the arrays over all pairs have no axis of length 4.
    left_a, top_a, right_a, bottom_a = jnp.unstack(a, axis=-1)
    left_b, top_b, right_b, bottom_b = jnp.unstack(b, axis=-1)
    width = jnp.minimum(right_a, right_b) - jnp.maximum(left_a, left_b)
    height = jnp.minimum(bottom_a, bottom_b) - jnp.maximum(top_a, top_b)
    inter = jnp.maximum(width, 0) * jnp.maximum(height, 0)
    return inter, area(a) + area(b) - inter


def _ratio(part: Float[Array, "..."], whole: Float[Array, "..."]) -> Float[Array, "..."]:
    """``part / whole``; 0, with a gradient of 0, where `whole` is not positive."""
    positive = whole > 0
    return jnp.where(positive, part, 0) / jnp.where(positive, whole, 1)


def paired_iou(a: Float[Array, "*n 4"], b: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Intersection over union of each box of `a` with its counterpart in `b`, 0 to 1."""
    return _ratio(*_intersection_and_union(a, b))


def iou(a: Float[Array, "*b n 4"], b: Float[Array, "*b m 4"]) -> Float[Array, "*b n m"]:
    """Intersection over union of every box of `a` with every box of `b`, 0 to 1.

    >>> a = jnp.array([[0.0, 0.0, 10.0, 10.0]])
    >>> b = jnp.array([[0.0, 0.0, 10.0, 5.0], [20.0, 0.0, 30.0, 10.0]])
    >>> iou(a, b).tolist()
    [[0.5, 0.0]]
    """
    return _ratio(*_intersection_and_union(a[..., :, None, :], b[..., None, :, :]))


def paired_giou(a: Float[Array, "*n 4"], b: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Generalised IoU (arXiv 1902.09630) of each box of `a` with its counterpart in `b`.

    IoU minus the share of the smallest enclosing box that neither box covers: -1 to 1. Gradients
    are finite for all finite boxes; two degenerate boxes at the same point have GIoU 0.
    """
    inter, union = _intersection_and_union(a, b)
    low = jnp.minimum(a[..., :2], b[..., :2])
    high = jnp.maximum(a[..., 2:], b[..., 2:])
    hull = area(jnp.concatenate([low, high], axis=-1))
    return _ratio(inter, union) - _ratio(hull - union, hull)


def giou(a: Float[Array, "*b n 4"], b: Float[Array, "*b m 4"]) -> Float[Array, "*b n m"]:
    """Generalised IoU, as `paired_giou`, of every box of `a` with every box of `b`.

    >>> a = jnp.array([[0.0, 0.0, 10.0, 10.0]])
    >>> b = jnp.array([[0.0, 0.0, 10.0, 5.0], [30.0, 0.0, 40.0, 10.0]])
    >>> giou(a, b).tolist()
    [[0.5, -0.5]]
    """
    n, m = a.shape[-2], b.shape[-2]
    shape = (*a.shape[:-2], n, m, 4)
    return paired_giou(
        jnp.broadcast_to(a[..., :, None, :], shape), jnp.broadcast_to(b[..., None, :, :], shape)
    )
