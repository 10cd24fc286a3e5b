"""Lists of different lengths, stored end to end: `zoo.ops.ragged` once more.

Importing anything of zoo imports JAX, for which scoring files of boxes need not wait.
"""

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int


def lengths_to_offsets(lengths: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n+1"]:
    """Zero and the running sums: list i is ``values[offsets[i]:offsets[i + 1]]``."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def spread(starts: Int[np.ndarray, " n"], lengths: Int[np.ndarray, " n"]) -> Int[np.ndarray, " t"]:
    """``start, start + 1, ...`` of every list, `lengths` of them, end to end.

    >>> spread(np.array([10, 20]), np.array([2, 3])).tolist()
    [10, 11, 20, 21, 22]
    """
    offsets = lengths_to_offsets(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)


def blocks(offsets: Int[np.ndarray, " n_plus_1"], size: int) -> Iterator[slice]:
    """Slices of consecutive lists with about `size` elements each, all lists in turn.

    At least one slice, so that what is made of the parts can be concatenated.
    """
    first = np.arange(offsets[0], max(offsets[-1], offsets[0] + 1), size)
    cuts = np.unique(np.searchsorted(offsets[:-1], first, side="left"))
    cuts[0] = 0
    for low, high in itertools.pairwise([*cuts.tolist(), len(offsets) - 1]):
        yield slice(low, high)
