"""Heat maps with one map for each class: objects as Gaussians, and the peaks of predicted maps.

Papers: CornerNet, arXiv 1808.01244, section 3.2; "Objects as Points", arXiv 1904.07850, section 3.
References: the authors' code of both, and mmdet's `gaussian_target.py`. A cell is an element of a
map; places are numbers of cells, x for columns and y for rows.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from zoo.ops.pool import max_pool
from zoo.types import check_choice

RadiusRule = Literal["exact", "centernet"]


def gaussian_radius(
    sizes: Float[Array, "*b 2"], iou: float, rule: RadiusRule = "exact"
) -> Float[Array, "*b"]:
    """How far corners may move so that the box still overlaps the object; not rounded.

    The least of three radii: one corner moves inwards and the other one outwards, both inwards,
    both outwards.

    | implementation | settings |
    | --- | --- |
    | CornerNet's authors | ``iou=0.3, rule="exact"``, of sizes that are rounded up |
    | mmdet | ``iou=0.3, rule="exact"`` |
    | CenterNet's authors | ``iou=0.7, rule="centernet"``, of sizes that are rounded up |

    >>> sizes = jnp.array([10.0, 20.0])
    >>> [round(float(gaussian_radius(sizes, 0.7, rule)), 3) for rule in ("exact", "centernet")]
    [1.077, 3.678]

    Args:
        sizes: Width and height of each object, in cells, at least 0.
        iou: The least overlap with the object.
        rule: ``exact``: the roots of the three equations. ``centernet``: what CenterNet's authors
            compute, who divide by 2 where the quadratic formula divides by twice the leading
            coefficient, and take the larger roots: their radii are larger.
    """
    check_choice("rule", rule, RadiusRule)
    total, area = sizes.sum(axis=-1), sizes.prod(axis=-1)
    crossed = jnp.sqrt(total**2 - 4 * area * (1 - iou) / (1 + iou))
    inwards = jnp.sqrt((2 * total) ** 2 - 16 * (1 - iou) * area)
    outwards = jnp.sqrt((2 * iou * total) ** 2 + 16 * iou * (1 - iou) * area)
    if rule == "centernet":
        roots = (total + crossed, 2 * total + inwards, outwards - 2 * iou * total)
        return jnp.stack(roots).min(axis=0) / 2
    roots = (
        (total - crossed) / 2,
        (2 * total - inwards) / 8,
        (outwards - 2 * iou * total) / (8 * iou),
    )
    return jnp.stack(roots).min(axis=0)


def draw_gaussians(
    places: Int[Array, "b m 2"],
    radii: Int[Array, "b m"],
    labels: Int[Array, "b m"],
    valid: Bool[Array, "b m"],
    shape: tuple[int, int],
    num_classes: int,
) -> Float[Array, "b h w k"]:
    """Maps with a Gaussian for each object; where several are, the largest value.

    A Gaussian is 1 in the cell of its object, has a standard deviation of a sixth of its diameter
    of ``2 * radius + 1`` cells, and is 0 outside the square with this side. The objects are drawn
    one after another, each in its class's map only. Not differentiable.

    >>> one = jnp.ones((1, 1), jnp.int32)
    >>> maps = draw_gaussians(jnp.array([[[3, 0]]]), one, 0 * one, one > 0, (2, 5), 2)
    >>> [[round(x, 2) for x in row] for row in maps[0, :, :, 0].tolist()]
    [[0.0, 0.0, 0.14, 1.0, 0.14], [0.0, 0.0, 0.02, 0.14, 0.02]]

    Args:
        places: Column and row of each object's cell; an object outside of the maps shows only
            what reaches into them.
        radii: At least 0.
        labels: Map of each object, from 0; any number where it is not valid.
        valid: False for padded objects.
        shape: Height and width of the maps.
        num_classes: Number of maps.
    """
    b, m = labels.shape
    h, w = shape
    start = jnp.zeros((b, num_classes, h, w), jnp.float32)
    if m == 0:
        return start.transpose(0, 2, 3, 1)
    across = _profile(places[..., 0], radii, w)
    down = jnp.where(valid[..., None], _profile(places[..., 1], radii, h), 0)
    labels = jnp.where(valid, labels, 0)

    def draw(j: Int[Array, ""], maps: Float[Array, "b k h w"]) -> Float[Array, "b k h w"]:
        rows, columns, label = (
            jax.lax.dynamic_index_in_dim(x, j, 1, keepdims=False) for x in (down, across, labels)
        )
        return jax.vmap(lambda x, y, z, k: x.at[k].max(y[:, None] * z))(maps, rows, columns, label)

    count = jnp.where(valid, jnp.arange(1, m + 1), 0).max()
    return jax.lax.fori_loop(0, count, draw, start).transpose(0, 2, 3, 1)


def draw_each_gaussians(
    places: Int[Array, "b m j 2"],
    radii: Int[Array, "b m"],
    valid: Bool[Array, "b m j"],
    shape: tuple[int, int],
) -> Float[Array, "b h w j"]:
    """Maps with a Gaussian for each object in every map, such as for the joints of people.

    See `draw_gaussians`; the j places of an object are drawn at once, one in each map.

    Args:
        places: Column and row of the cells of each object.
        radii: Of all Gaussians of an object.
        valid: False for places that are not drawn.
        shape: Height and width of the maps.
    """
    b, m, j = valid.shape
    start = jnp.zeros((b, *shape, j), jnp.float32)
    radii = radii[..., None]
    across = jnp.where(valid[..., None], _profile(places[..., 0], radii, shape[1]), 0)
    down = _profile(places[..., 1], radii, shape[0])

    def draw(i: Int[Array, ""], maps: Float[Array, "b h w j"]) -> Float[Array, "b h w j"]:
        rows, columns = (
            jax.lax.dynamic_index_in_dim(x, i, 1, keepdims=False) for x in (down, across)
        )
        rows, columns = rows.swapaxes(1, 2)[:, :, None], columns.swapaxes(1, 2)[:, None]
        return jnp.maximum(maps, rows * columns)

    if m == 0:
        return start
    count = jnp.where(valid.any(axis=2), jnp.arange(1, m + 1), 0).max()
    return jax.lax.fori_loop(0, count, draw, start)


def _profile(
    places: Int[Array, "*m"], radii: Int[Array, "*#m"], size: int
) -> Float[Array, "*m size"]:
    """The factor of each Gaussian along one axis."""
    away, radius = jnp.arange(size) - places[..., None], radii[..., None]
    sigma = (2 * radius + 1) / 6
    return jnp.where(jnp.abs(away) <= radius, jnp.exp(-(away**2) / (2 * sigma**2)), 0)


def peaks(maps: Float[Array, "b h w k"], size: int = 3) -> Float[Array, "b h w k"]:
    """The maps, with 0 where a cell is not the largest of the `size` x `size` cells around it.

    Equal neighbours are all kept. `size` is odd.
    """
    return jnp.where(maps == max_pool(maps, size, 1, size // 2), maps, 0)


class Cells(NamedTuple):
    """Cells of heat maps, best first.

    Attributes:
        scores: Their values.
        index: Their numbers in their map, row by row.
        labels: Their maps.
        x: Their columns.
        y: Their rows.
    """

    scores: Float[Array, "*b n"]
    index: Int[Array, "*b n"]
    labels: Int[Array, "*b n"]
    x: Int[Array, "*b n"]
    y: Int[Array, "*b n"]


def top_of_each_class(maps: Float[Array, "b h w k"], num: int) -> Cells:
    """The cells with the largest values of each map, ``[b k n]``; n is at most ``h * w``."""
    b, h, w, k = maps.shape
    scores, index = jax.lax.top_k(maps.transpose(0, 3, 1, 2).reshape(b, k, -1), min(num, h * w))
    labels = jnp.broadcast_to(jnp.arange(k)[:, None], index.shape)
    return Cells(scores, index, labels, index % w, index // w)


def top_cells(maps: Float[Array, "b h w k"], num: int, *, by_class: bool = True) -> Cells:
    """The cells with the largest values of all maps, ``[b n]``; n is at most ``h * w * k``.

    Of equal values, that of the lower class comes first, and in a class that of the upper row.

    Args:
        maps: Scores.
        num: Number of cells.
        by_class: Whether the best of each class are found first, as in CenterNet's authors' code,
            and the best of these then; else all cells are sorted at once, as in CornerNet's. The
            result is the same; the memory and the time that it takes are not.
    """
    b, h, w, _ = maps.shape
    if by_class:
        found = top_of_each_class(maps, num)
        scores, index, labels = (x.reshape(b, -1) for x in found[:3])
        scores, chosen = jax.lax.top_k(scores, min(num, scores.shape[1]))
        index, labels = (jnp.take_along_axis(x, chosen, axis=1) for x in (index, labels))
    else:
        flat = maps.transpose(0, 3, 1, 2).reshape(b, -1)
        scores, chosen = jax.lax.top_k(flat, min(num, flat.shape[1]))
        labels, index = chosen // (h * w), chosen % (h * w)
    return Cells(scores, index, labels, index % w, index // w)


def at_cells(maps: Shaped[Array, "b h w d"], index: Int[Array, "b n"]) -> Shaped[Array, "b n d"]:
    """The features of cells, which are numbered row by row."""
    b, _, _, d = maps.shape
    return jnp.take_along_axis(maps.reshape(b, -1, d), index[..., None], axis=1)
