"""How the operations on regions of interest go through their work: a few regions at a time.

Regions are sorted by the map that they are pooled from, and each map is visited for its own regions
only, in chunks: no memory is needed for all regions at once, and none to join the maps. The number
of chunks depends on the data, so JAX cannot differentiate through the loop; the operations define
their gradients. All images of a batch go through the chunks together.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

MAPS = Sequence[Float[Array, "b _ _ c"]]

_MOST_ROIS = 32
_MOST_VALUES = 2**20  # in the output of a chunk, for each image: 4 MB of float32
_Carry = TypeVar("_Carry")


class Chunk(NamedTuple):
    """Regions that are pooled together.

    Attributes:
        rows: Their indices among the regions of their image, all in range.
        valid: False for filling.
    """

    rows: Int[Array, "b s"]
    valid: Bool[Array, "b s"]

    def take(self, x: Shaped[Array, "b r *d"]) -> Shaped[Array, "b s *d"]:
        """Values of the chunk's regions, 0 for filling, so that it causes no work or gradient."""
        values = jax.vmap(lambda values, rows: values[rows])(x, self.rows)
        return jnp.where(self.valid.reshape(*self.valid.shape, *[1] * (x.ndim - 2)), values, 0)

    def put(self, x: Shaped[Array, "b r *d"], values: Shaped[Array, "b s *d"]) -> Array:
        """Writes values of the chunk's regions into `x`."""
        rows = jnp.where(self.valid, self.rows, x.shape[1])  # one beyond the last: dropped
        return jax.vmap(lambda x, rows, values: x.at[rows].set(values, mode="drop"))(
            x, rows, values.astype(x.dtype)
        )


class Plan(NamedTuple):
    """The order in which regions are pooled.

    Attributes:
        order: Indices of the regions, sorted by level.
        starts: Place in the order of each level's first region.
        ends: One beyond the place of each level's last region.
        size: Regions in a chunk, s.
    """

    order: Int[Array, "b r"]
    starts: Int[Array, "b l"]
    ends: Int[Array, "b l"]
    size: int

    def pool(self, visit: Callable[[int, Chunk, Array], Array], pooled: Array) -> Array:
        """Calls ``visit(level, chunk, pooled)`` for all chunks; it writes a chunk's features."""
        for level in range(self.starts.shape[1]):
            pooled = self.each(level, functools.partial(visit, level), pooled)
        return pooled

    def spread(
        self, visit: Callable[[int, Chunk, Array], Array], tables: Sequence[Any]
    ) -> tuple[Float[Array, "b _ c"], ...]:
        """The gradients of the maps: calls ``visit(level, chunk, gradient)`` for all chunks.

        Args:
            visit: Adds the gradients of a chunk's regions to the gradient of their map.
            tables: Shapes and dtypes of the gradients; sums are in float32 at least.
        """
        found = []
        for level, table in enumerate(tables):
            start = jnp.zeros(table.shape, jnp.promote_types(table.dtype, jnp.float32))
            total = self.each(level, functools.partial(visit, level), start)
            found.append(total.astype(table.dtype))
        return tuple(found)

    def each(self, level: int, visit: Callable[[Chunk, _Carry], _Carry], carry: _Carry) -> _Carry:
        """Calls ``visit(chunk, carry)`` for every chunk of a level's regions."""
        starts, ends = self.starts[:, level, None], self.ends[:, level, None]

        def turn(i: Int[Array, ""], carry: _Carry) -> _Carry:
            places = starts + i * self.size + jnp.arange(self.size)
            rows = jnp.take_along_axis(self.order, jnp.minimum(places, self.order.shape[1] - 1), 1)
            return visit(Chunk(rows, places < ends), carry)

        chunks = -(-(ends - starts).max(initial=0) // self.size)
        return jax.lax.fori_loop(0, chunks, turn, carry)


def plan(
    levels: Int[Array, "b r"], num_levels: int, values: int, work: Int[Array, "b r"] | None = None
) -> Plan:
    """Sorts regions by level.

    Args:
        levels: Number of the map that each region is pooled from; a region with another number is
            in no chunk.
        num_levels: Number of maps, l.
        values: Values in the output for one region; fewer regions are in a chunk if they are many.
        work: Regions of a level are sorted by this, so that those of a chunk are alike.
    """
    keys = (levels,) if work is None else (work, levels)
    order = jnp.lexsort(keys, axis=-1).astype(jnp.int32)
    number = jnp.arange(num_levels)[:, None]
    starts = (levels[:, None] < number).sum(axis=-1)
    ends = (levels[:, None] <= number).sum(axis=-1)
    size = max(1, min(_MOST_ROIS, levels.shape[1], _MOST_VALUES // values))
    return Plan(order, starts, ends, size)


def flatten(features: Float[Array, "b h w c"]) -> Float[Array, "b hw c"]:
    """A map as a table with a row for each cell."""
    b, h, w, c = features.shape
    return features.reshape(b, h * w, c)


def levels_of(
    maps: MAPS,
    boxes: Float[Array, "b r 4"],
    levels: Int[Array, "b r"] | None,
    strides: Sequence[int | float],
) -> Int[Array, "b r"]:
    """The number of the map that each box is pooled from; by default the first.

    Raises:
        ValueError: If there is not one stride for each map.
    """
    if len(maps) != len(strides):
        raise ValueError(f"{len(maps)} feature maps, but {len(strides)} strides: {strides}")
    return jnp.zeros(boxes.shape[:2], jnp.int32) if levels is None else levels


def sizes_of(maps: MAPS) -> tuple[tuple[int, int], ...]:
    """Rows and columns of the maps."""
    return tuple((x.shape[1], x.shape[2]) for x in maps)
