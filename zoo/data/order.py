"""Which examples a training batch has, computed from the seed and the batch's number alone.

All examples of a batch are from one group. Each group has its own epochs, each in another order,
and the batches of the group take the examples in that order.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Int, UInt32

_BLOCK = 256  # number of batches that are divided among the groups at a time


def group_and_turn(seed: int, batch: int, counts: tuple[int, ...]) -> tuple[int, int]:
    """The group of a batch, and the number of earlier batches of that group.

    Args:
        seed: Seed of the run.
        batch: Number of the batch, from 0.
        counts: Number of examples in each group.
    """
    block, place = divmod(batch, _BLOCK)
    groups, turns = _block(seed, block, counts)
    return int(groups[place]), int(turns[place])


@functools.lru_cache(maxsize=4)
def _block(
    seed: int, block: int, counts: tuple[int, ...]
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Group and turn (number of earlier batches of the group) of each batch of a block.

    A group's share of a block is `counts` divided by their sum. To round the shares to whole
    batches, the shares are laid end to end on a line, and the batches are points at equal distances
    on it: each belongs to the group in whose share it lies. Each block shifts the points by the
    golden ratio, so that over many blocks even very small shares are exact.
    """
    ends = np.cumsum(counts) * (_BLOCK / sum(counts))
    shifts = np.arange(block + 1) * ((math.sqrt(5) - 1) / 2) % 1
    points = np.ceil(ends[:, None] - shifts).astype(np.int64)  # points before a group's end
    points[-1] = _BLOCK  # independent of rounding
    shares = np.diff(points, axis=0, prepend=0)
    rng = np.random.default_rng([seed, block, len(counts)])  # differs from every seed of `_order`
    groups = rng.permutation(np.repeat(np.arange(len(counts)), shares[:, block]))
    before = shares[:, :block].sum(axis=1)
    turns = np.zeros(_BLOCK, np.int64)
    for group in range(len(counts)):
        places = np.flatnonzero(groups == group)
        turns[places] = before[group] + np.arange(len(places))
    return groups, turns


def epoch_order(
    seed: int, epoch: int, group: int, counts: tuple[int, ...]
) -> UInt32[np.ndarray, " m"]:
    """A permutation of a group's examples, for one of its epochs."""
    return _remembered(len(counts))(seed, epoch, group, counts[group])


@functools.cache
def _remembered(groups: int) -> Callable[[int, int, int, int], UInt32[np.ndarray, " m"]]:
    """`_order` with a cache of four orders for each group; a batch between epochs needs two."""
    return functools.lru_cache(maxsize=4 * groups)(_order)


def _order(seed: int, epoch: int, group: int, count: int) -> UInt32[np.ndarray, " m"]:
    # grain's index_shuffle is not used here: it takes longer than decoding a digit.
    rng = np.random.default_rng([seed, epoch, group])
    return rng.permutation(np.arange(count, dtype=np.uint32))
