"""Lists of different lengths, stored end to end."""

import numpy as np
from jaxtyping import Int, Num


def lengths_to_offsets(lengths: Num[np.ndarray, " n"]) -> Num[np.ndarray, " n+1"]:
    """Zero and the running sums: list i is ``values[offsets[i]:offsets[i + 1]]``."""
    offsets = np.zeros(len(lengths) + 1, lengths.dtype)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def spread(starts: Int[np.ndarray, " n"], lengths: Int[np.ndarray, " n"]) -> Int[np.ndarray, " t"]:
    """``start, start + 1, ...`` of every list, `lengths` of them, end to end.

    >>> spread(np.array([10, 20]), np.array([2, 3])).tolist()
    [10, 11, 20, 21, 22]
    """
    offsets = lengths_to_offsets(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
