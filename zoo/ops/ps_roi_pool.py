"""Position-sensitive pooling of regions, for R-FCN (arXiv 1605.06409)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from zoo.ops.roi_pool import round_half_away

_CHUNK = 32  # regions of an image that are pooled together


def ps_roi_pool(
    maps: Float[Array, "b h w c"], boxes: Float[Array, "b r 4"], *, stride: int, size: int
) -> Float[Array, "b r size size d"]:
    """Pools every box into a grid of bins, each the mean of its cells in its own channels.

    As ``PSROIPooling`` of daijifeng001/caffe-rfcn: corners are rounded to whole pixels, the last
    one is included, and a box is at least a tenth of a cell wide and high. The edges of the bins
    are exact. R-FCN's score is the mean over the bins. No gradient flows to the boxes.

    Args:
        maps: Score maps; channel ``(d * size + row) * size + column`` of output d is for the bin in
            this row and column.
        boxes: ``xyxy`` in pixels of the image, the last ones included.
        stride: Pixels of the image in a cell.
        size: Bins in a row and a column of the grid.

    Returns:
        The means; 0 for a bin without cells, because it is beyond the map.
    """
    b, h, w, c = maps.shape
    r, d = boxes.shape[1], c // size**2
    maps = maps.reshape(b, h, w, d, size, size)
    corners = round_half_away(boxes)
    rows = _shares(corners[..., 1], corners[..., 3], stride, size, h)
    columns = _shares(corners[..., 0], corners[..., 2], stride, size, w)

    def pool(shares: tuple[Array, Array]) -> Array:
        rows, columns = shares
        across = jnp.einsum("brqw,bhwdpq->bqrhdp", columns, maps, precision="highest")
        return jnp.einsum("brph,bqrhdp->brpqd", rows, across, precision="highest")

    chunks = -(-r // _CHUNK)

    def split(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (0, chunks * _CHUNK - r), (0, 0), (0, 0)))
        return x.reshape(b, chunks, _CHUNK, *x.shape[2:]).swapaxes(0, 1)

    pooled = jax.lax.map(jax.checkpoint(pool), (split(rows), split(columns)))
    pooled = pooled.swapaxes(0, 1).reshape(b, chunks * _CHUNK, size, size, d)
    return pooled[:, :r].astype(maps.dtype)


def _shares(
    low: Int[Array, "b r"], high: Int[Array, "b r"], stride: int, bins: int, length: int
) -> Float[Array, "b r p n"]:
    """The share of each cell along an axis in the mean of each bin."""
    i, unit = jnp.arange(bins), 10 * bins * stride  # of a cell, so that all edges are integers
    extent = jnp.maximum(10 * (high + 1 - low), stride)[..., None]
    start = 10 * bins * low[..., None]
    first = jnp.clip((start + i * extent) // unit, 0, length)
    last = jnp.clip(-(-(start + (i + 1) * extent) // unit), 0, length)
    cell = jnp.arange(length)
    inside = (cell >= first[..., None]) & (cell < last[..., None])
    return inside / jnp.maximum(last - first, 1)[..., None].astype(jnp.float32)
