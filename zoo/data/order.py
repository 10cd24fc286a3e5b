"""Which examples a training batch has, from the seed and the batch's number alone.

A batch is of one group of examples. Each group has its own epochs, one after the other, each in an
order of its own; its batches take the examples in turn.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Int, UInt32

_BLOCK = 256  # batches in which every group has its share


def group_and_turn(seed: int, batch: int, counts: tuple[int, ...]) -> tuple[int, int]:
    """The group that a batch is of, and how many batches of that group came before.

    Args:
        seed: Of the run.
        batch: Number of the batch, from 0.
        counts: Examples in each group.
    """
    block, place = divmod(batch, _BLOCK)
    groups, turns = _block(seed, block, counts)
    return int(groups[place]), int(turns[place])


@functools.lru_cache(maxsize=4)
def _block(
    seed: int, block: int, counts: tuple[int, ...]
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Group and turn of each batch of a block.

    Each group has its share of a block, `counts` over their sum, rounded up or down: the batches
    are points at equal distances on the line of all shares. Each block shifts the points by the
    golden ratio, so that over many blocks the shares are exact, however small.
    """
    ends = np.cumsum(counts) * (_BLOCK / sum(counts))
    shifts = np.arange(block + 1) * ((math.sqrt(5) - 1) / 2) % 1
    points = np.ceil(ends[:, None] - shifts).astype(np.int64)  # so many before a group's end
    points[-1] = _BLOCK  # whatever the rounding
    shares = np.diff(points, axis=0, prepend=0)
    rng = np.random.default_rng([seed, block, len(counts)])  # a seed that no `_order` has
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
def _remembered(groups: int) -> Callable[[int, int, int, int], np.ndarray]:
    """`_order`, remembering the end of one epoch and the beginning of the next, twice a group."""
    return functools.lru_cache(maxsize=4 * groups)(_order)


def _order(seed: int, epoch: int, group: int, count: int) -> np.ndarray:
    # grain's index_shuffle takes longer than decoding a digit.
    rng = np.random.default_rng([seed, epoch, group])
    return rng.permutation(np.arange(count, dtype=np.uint32))
