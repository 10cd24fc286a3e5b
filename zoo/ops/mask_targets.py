"""Targets of mask heads: the true masks of objects inside proposals (arXiv 1703.06870)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from zoo.ops.roi_samples import AxisSamples, axis_samples


def mask_targets(
    bitmaps: Shaped[Array, "b m h w"],
    boxes: Float[Array, "b r 4"],
    match: Int[Array, "b r"],
    *,
    size: int,
    frames: Float[Array, "b m 4"] | None = None,
    aligned: bool = True,
    threshold: float | None = 0.5,
) -> Float[Array, "b r size size"]:
    """The matched object's mask inside each box, by RoIAlign with adaptive sampling.

    torchvision has ``aligned=False, threshold=None``; the defaults are detectron2's for bitmaps.
    Only positive proposals need targets; `sample_balanced` puts them first, so give their rows.
    Every row reads a whole bitmap; one is in float32 at a time for each image.

    >>> bitmaps = jnp.zeros((1, 1, 8, 8)).at[:, :, :, 4:].set(1.0)
    >>> boxes, match = jnp.array([[[0.0, 0.0, 8.0, 8.0]]]), jnp.array([[0]])
    >>> mask_targets(bitmaps, boxes, match, size=2).tolist()
    [[[[0.0, 1.0], [0.0, 1.0]]]]

    Args:
        bitmaps: Masks of an image's objects at one cell a pixel of the image, or of their frames:
            boolean, floats of 0 to 1, or bytes, of which 255 stands for 1.
        boxes: Proposals, ``xyxy`` in pixels of the image.
        match: The object of each proposal.
        size: Cells in a row and a column of a target.
        frames: The box that each bitmap shows, ``xyxy`` in pixels of the image: with a small bitmap
            of every object in its own box, 100 objects of a large image need a megabyte and not a
            hundred. By default bitmaps show the image.
        aligned: As in `roi_align`.
        threshold: Targets are 1 where the mean is at least this, and else 0; None keeps the mean.

    Returns:
        Targets of 0 to 1; not differentiable.
    """
    h, w = bitmaps.shape[2:]
    full = 255 if bitmaps.dtype == jnp.uint8 else 1
    bitmaps, boxes, frames = jax.lax.stop_gradient((bitmaps, boxes, frames))
    if frames is not None:
        if not aligned:  # half a pixel of the image, not half a cell of a frame
            boxes, aligned = boxes + 0.5, True
        boxes = _inside_frames(boxes, jax.vmap(lambda x, i: x[i])(frames, match), (h, w))
    left, top, right, bottom = jnp.unstack(boxes, axis=-1)

    def project(row: tuple[Array, ...]) -> Array:
        left, top, right, bottom, match = row  # one proposal of each image
        bitmap = jax.vmap(lambda x, i: x[i])(bitmaps, match).astype(jnp.float32) / full
        rules = {"bins": size, "sampling_ratio": 0, "aligned": aligned}
        rows = _shares(axis_samples(top, bottom, length=h, **rules))
        columns = _shares(axis_samples(left, right, length=w, **rules))
        return jnp.einsum("bph,bhw,bqw->bpq", rows, bitmap, columns, precision="highest")

    targets = jax.lax.map(project, tuple(x.T for x in (left, top, right, bottom, match)))
    targets = targets.swapaxes(0, 1)
    return targets if threshold is None else (targets >= threshold).astype(jnp.float32)


def _inside_frames(
    boxes: Float[Array, "b r 4"], frames: Float[Array, "b r 4"], shape: tuple[int, int]
) -> Float[Array, "b r 4"]:
    """Boxes in cells of the bitmaps that show the frames; a frame without size gives 0."""
    low, high = jnp.split(frames, 2, axis=-1)
    size = high - low
    scale = jnp.where(size > 0, jnp.array(shape[::-1]) / jnp.where(size > 0, size, 1), 0)
    return (boxes - jnp.tile(low, 2)) * jnp.tile(scale, 2)


def _shares(samples: AxisSamples) -> Float[Array, "b p n"]:
    """The share of each cell along an axis in the mean of each bin."""
    cell = jnp.arange(samples.length)

    def add(turn: Int[Array, ""], total: Array) -> Array:
        index, weight = samples.cells(turn)
        return total + jnp.where(index[..., None] == cell, weight[..., None], 0).sum(axis=-2)

    start = jnp.zeros((*samples.start.shape, samples.bins, samples.length))
    total = jax.lax.fori_loop(0, samples.turns, add, start)
    return total / jnp.maximum(samples.count, 1)[..., None, None]
