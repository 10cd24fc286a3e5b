"""Keypoints inside regions: targets and decoding of the heat maps of Keypoint R-CNN.

arXiv 1703.06870, section 5; as torchvision and detectron2 do it, with static shapes.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_TILE = (16, 64)  # rows and columns of the enlarged heat maps that are computed together
_Best = tuple[Float[Array, " j"], Int[Array, " j"], Int[Array, " j"]]


def keypoint_targets(
    keypoints: Float[Array, "*b j 3"], boxes: Float[Array, "*b 4"], *, size: int
) -> tuple[Int[Array, "*b j"], Bool[Array, "*b j"]]:
    """The cell of a box's heat maps in which each keypoint is.

    A keypoint on the right or bottom edge of the box is in the last column or row.

    >>> keypoints = jnp.array([[5.0, 0.0, 2.0], [10.0, 10.0, 1.0], [11.0, 5.0, 2.0]])
    >>> cell, valid = keypoint_targets(keypoints, jnp.array([0.0, 0.0, 10.0, 10.0]), size=56)
    >>> cell.tolist(), valid.tolist()
    ([28, 3135, 0], [True, True, False])

    Args:
        keypoints: Of the object that the box is matched with: x, y in pixels, and visibility, which
            is above 0 for labelled keypoints.
        boxes: Proposals, ``xyxy`` in pixels.
        size: Rows and columns of the heat maps.

    Returns:
        Number of the cell, row by row, 0 for an invalid keypoint; and False for a keypoint that is
        not labelled or not in the box.
    """
    low, high = jnp.split(boxes[..., None, :], 2, axis=-1)
    point, extent = keypoints[..., :2], high - low
    scale = size / jnp.where(extent > 0, extent, 1)
    cell = jnp.floor((point - low) * scale)
    cell = jnp.where(point == high, size - 1, cell)
    inside = (cell >= 0) & (cell < size) & (extent > 0)
    valid = inside.all(axis=-1) & (keypoints[..., 2] > 0)
    column, row = jnp.unstack(jnp.where(valid[..., None], cell, 0).astype(jnp.int32), axis=-1)
    return row * size + column, valid


def decode_keypoints(
    heatmaps: Float[Array, "n s s j"], boxes: Float[Array, "n 4"], *, max_side: int = 4096
) -> tuple[Float[Array, "n j 2"], Float[Array, "n j"], Float[Array, "n j"]]:
    """Where the heat maps of each box are largest, at the resolution of the image.

    The maps are enlarged to the box's width and height, rounded up, with bicubic interpolation, as
    torch's ``bicubic`` with ``align_corners=False``; the largest value there, the first of equal
    ones, is the keypoint. The enlarged maps are computed in tiles, as many as the box needs, and
    never held in memory.

    Args:
        heatmaps: Logits.
        boxes: ``xyxy`` in pixels; sides below 1 count as 1.
        max_side: The enlarged maps have at most this many rows and columns; those of a larger box
            are coarser than its pixels.

    Returns:
        x and y in pixels; the interpolated logit, which is torchvision's score; and detectron2's
        score, above 0: the exponential of that logit, divided by the sum of the exponentials of the
        logits of the heat map before it was enlarged.
    """
    heatmaps = heatmaps.astype(jnp.float32)
    low, high = jnp.split(boxes, 2, axis=-1)
    extent = jnp.maximum(high - low, 1)
    sides = jnp.clip(jnp.ceil(extent), 1, max_side).astype(jnp.int32)
    logits, cells = jax.lax.map(lambda x: _peak(*x), (heatmaps, sides))
    points = (cells + 0.5) * (extent / sides)[:, None] + low[:, None]
    scores = 1 / jnp.exp(heatmaps - logits[:, None, None]).sum(axis=(1, 2))
    return points, logits, scores


def _peak(
    heatmaps: Float[Array, "s s j"], sides: Int[Array, "2"]
) -> tuple[Float[Array, " j"], Int[Array, "j 2"]]:
    """The largest value of each map after enlarging to `sides`, width and height; its x and y."""
    s, _, j = heatmaps.shape
    width, height = sides
    across, down = -(-width // _TILE[1]), -(-height // _TILE[0])

    def compare(turn: Int[Array, ""], best: _Best) -> _Best:
        rows = turn // across * _TILE[0] + jnp.arange(_TILE[0])
        columns = turn % across * _TILE[1] + jnp.arange(_TILE[1])
        values = jnp.einsum(
            "ra,abj,cb->jrc",
            _bicubic(rows, height, s),
            heatmaps,
            _bicubic(columns, width, s),
            precision="highest",
        )
        inside = (rows < height)[:, None] & (columns < width)
        values = jnp.where(inside, values, -jnp.inf).reshape(j, -1)
        place = jnp.argmax(values, axis=1)
        value = jnp.take_along_axis(values, place[:, None], axis=1)[:, 0]
        row, column = rows[place // _TILE[1]], columns[place % _TILE[1]]
        # Tiles are not rows: of equal values in a row of tiles, an upper row comes first.
        better = (value > best[0]) | ((value == best[0]) & (row < best[1]))
        value, row, column = (
            jnp.where(better, new, old) for new, old in zip((value, row, column), best, strict=True)
        )
        return value, row, column

    start = jnp.full(j, -jnp.inf), jnp.zeros(j, jnp.int32), jnp.zeros(j, jnp.int32)
    value, row, column = jax.lax.fori_loop(0, across * down, compare, start)
    return value, jnp.stack([column, row], axis=-1)


def _bicubic(places: Int[Array, " n"], size: Int[Array, ""], cells: int) -> Float[Array, "n cells"]:
    """Weights of cells at places of an axis that is enlarged to `size`; cubic with a = -0.75."""
    centre = (places + 0.5) * (cells / size) - 0.5
    first = jnp.floor(centre)
    index = first.astype(jnp.int32)[:, None] + jnp.arange(-1, 3)
    distance = jnp.abs(centre[:, None] - first[:, None] - jnp.arange(-1, 3))
    near = (1.25 * distance - 2.25) * distance**2 + 1
    far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
    weight = jnp.where(distance <= 1, near, far)
    at = jnp.clip(index, 0, cells - 1)[..., None] == jnp.arange(cells)  # n 4 cells
    return jnp.where(at, weight[..., None], 0).sum(axis=1)
