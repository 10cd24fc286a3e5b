"""Replacements of the names that a pickle of numpy's arrays asks for: see `zoo.weights.pickles`.

Detectron2's published models are such pickles. Arrays of whole, floating-point and truth values are
read; one of other values, such as objects, is not. The forms: that of protocols 2 to 4, written by
Python 3 or 2, and that of protocol 5.
"""

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.weights.pickles import check_sizes

_KINDS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"f2", "f4", "f8", "b1"}
_ORDERS = ("<", ">", "=", "|")


class Dtype:
    """Replaces ``numpy.dtype``.

    Attributes:
        dtype: The dtype; None if it is not one of numbers.
    """

    __slots__ = ("_kind", "dtype")

    def __init__(self, kind: Any, *_: Any) -> None:
        self._kind = str(kind)
        self.dtype = np.dtype(self._kind) if self._kind in _KINDS else None

    def __setstate__(self, state: Any) -> None:
        """Sets the order of bytes, the second entry."""
        if self.dtype is not None and state[1] in _ORDERS:
            self.dtype = np.dtype(self._kind).newbyteorder(state[1])


class Array:
    """Replaces ``numpy.ndarray``, which a pickle makes empty and then fills.

    Attributes:
        numbers: The array, which shares the memory of the pickle's string; None without numbers.
        asked: What it is if it has no numbers.
    """

    __slots__ = ("asked", "numbers")

    def __init__(self) -> None:
        self.numbers: np.ndarray | None = None
        self.asked = "an empty array of numpy"

    def __setstate__(self, state: Any) -> None:
        """Takes (version, shape, dtype, whether columns are contiguous, numbers)."""
        *_, shape, dtype, by_columns, numbers = state
        self._fill(shape, dtype, numbers, "F" if by_columns else "C")

    def _fill(self, shape: Any, dtype: Any, data: Any, order: Any) -> None:
        if not isinstance(dtype, Dtype) or dtype.dtype is None:
            self.asked = "an array of numpy that is not of numbers"
            return
        shape = tuple(shape)
        check_sizes(shape)
        data = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(data, bytes | bytearray):
            raise pickle.UnpicklingError("an array without numbers")
        if len(data) != dtype.dtype.itemsize * math.prod(shape):
            raise pickle.UnpicklingError(f"an array of {len(data)} bytes for its shape {shape}")
        flat = np.frombuffer(data, dtype.dtype) if data else np.zeros(0, dtype.dtype)
        flat = flat.astype(dtype.dtype.newbyteorder("="), copy=False)
        self.numbers = flat.reshape(shape, order="F" if order == "F" else "C")


class _MakeEmpty:
    """Replaces the function that makes an empty array."""

    __slots__ = ()

    def __call__(self, *_: Any) -> Array:
        return Array()


class _FromBuffer:
    """Replaces the function of protocol 5 that makes an array of a buffer."""

    __slots__ = ()

    def __call__(self, data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Array:
        array = Array()
        array._fill(shape, dtype, data, order)
        if array.numbers is not None and order == "K" and axes is not None:
            array.numbers = array.numbers.transpose(tuple(axes))
        return array


class _Scalar:
    """Replaces the function that makes a number of numpy; Python's numbers replace these."""

    __slots__ = ()

    def __call__(self, dtype: Any, data: Any = b"") -> Any:
        array = Array()
        array._fill((), dtype, data, "C")
        return array if array.numbers is None else array.numbers.item()


class _Encode:
    """Replaces ``_codecs.encode``, by which protocol 2 writes bytes as text.

    All results together are not longer than the file: it has each text once.
    """

    __slots__ = ("_left",)

    def __init__(self, size: int) -> None:
        self._left = size

    def __call__(self, text: Any, codec: Any = "latin1") -> bytes:
        if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("bytes that are not written as latin1")
        self._left -= len(text)
        if self._left < 0:
            raise pickle.UnpicklingError("more bytes than the file has")
        return text.encode("latin1")


class _NoBytes:
    """Replaces ``bytes``, which protocol 2 calls for empty ones."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


def numpy_names(size: int) -> dict[str, Any]:
    """What replaces the names in a pickle of arrays.

    Args:
        size: Bytes of the file.
    """
    functions: dict[str, Callable[..., Any]] = {
        "multiarray._reconstruct": _MakeEmpty(),
        "multiarray.scalar": _Scalar(),
        "numeric._frombuffer": _FromBuffer(),
    }
    return {
        **{f"numpy.{core}.{n}": f for core in ("core", "_core") for n, f in functions.items()},
        "numpy.dtype": Dtype,
        "numpy.ndarray": "numpy.ndarray",  # only given to the function that makes an empty array
        "_codecs.encode": _Encode(size),
        "builtins.bytes": _NoBytes(),
        "__builtin__.bytes": _NoBytes(),
    }
