"""Where RoIAlign samples a map, along one axis: rows and columns are independent."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class AxisSamples(NamedTuple):
    """Where boxes are sampled along one axis of a map, in cells.

    Attributes:
        start: Edge of the first bin; 0 is the centre of the first cell.
        step: Length of a bin.
        count: Samples in a bin.
        turns: Samples of a bin that have to be visited, so that all those which touch the map are.
        bins: Bins along the axis.
        length: Cells along the axis.
    """

    start: Float[Array, "*b"]
    step: Float[Array, "*b"]
    count: Int[Array, "*b"]
    turns: int | Int[Array, ""]
    bins: int
    length: int

    def cells(
        self, turn: int | Int[Array, ""]
    ) -> tuple[Int[Array, "*b p 2"], Float[Array, "*b p 2"]]:
        """The two cells between which a sample of every bin lies, and their weights.

        Bins that begin before the map begin with the last sample that is outside. The weights are 0
        if the sample is more than a cell outside, or if the bin has no sample of this number.
        """
        start, step, count = (x[..., None] for x in (self.start, self.step, self.count))
        edge = start + jnp.arange(self.bins) * step
        distance = step / jnp.maximum(count, 1)
        before = (-1 - edge) / jnp.where(distance > 0, distance, 1)
        sample = turn + jnp.clip(jnp.floor(before) - 1, 0, count).astype(jnp.int32)
        place = edge + (sample + 0.5) * distance
        used = (sample < count) & (place >= -1) & (place <= self.length)
        place = jnp.clip(place, 0, self.length - 1)
        low = jnp.clip(place.astype(jnp.int32), 0, self.length - 1)  # in range for NaN as well
        high = jnp.minimum(low + 1, self.length - 1)
        weight = place - low
        weights = jnp.stack([1 - weight, weight], axis=-1)
        return jnp.stack([low, high], axis=-1), jnp.where(used[..., None], weights, 0)


def axis_samples(
    low: Float[Array, "*b"],
    high: Float[Array, "*b"],
    *,
    bins: int,
    length: int,
    sampling_ratio: int,
    aligned: bool,
) -> AxisSamples:
    """Samples of boxes from `low` to `high`, in cells; the other arguments are `roi_align`'s."""
    extent = high - low
    if aligned:
        low = low - 0.5
    else:
        extent = jnp.maximum(extent, 1)
    if sampling_ratio:
        count, turns = jnp.full(extent.shape, sampling_ratio, jnp.int32), sampling_ratio
    else:
        count = jnp.clip(_ceil_div(extent, bins), 0, 2**24).astype(jnp.int32)
        # Samples of a bin that is longer than a cell are at least half a cell apart.
        turns = jnp.minimum(count, 2 * length + 8).max(initial=0)
    return AxisSamples(low, extent / bins, count, turns, bins, length)


def _ceil_div(x: Float[Array, "*n"], divisor: int) -> Float[Array, "*n"]:
    """The quotient rounded up, exactly; XLA multiplies by the rounded inverse of a constant."""
    quotient = jnp.ceil(x / divisor)
    quotient = jnp.where((quotient - 1) * divisor >= x, quotient - 1, quotient)
    return jnp.where(quotient * divisor < x, quotient + 1, quotient)
