"""Reads PyTorch's files, and pickles of numpy's arrays, without PyTorch and without running code.

`zoo.weights.pickles` says how a pickle is read. A tensor becomes a description of where its numbers
are in the file. An object that is not loaded is an error where a parameter should be. Formats:
torch's zip archive (since 1.6), as in `.pth`, `.pt` and `.bin` files, the older sequence of
pickles, and a single pickle of a dict of arrays, as in detectron2's `.pkl` files.
"""

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from zoo.types import InputError
from zoo.weights.numpy_pickle import Array, numpy_names
from zoo.weights.pickles import MAX_PICKLE, Names, Unknown, Unpickler, check_sizes

DTYPES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": jnp.dtype(jnp.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# Keys under which training scripts keep the parameters, preferred first: averages of parameters,
# then the parameters.
STATE_KEYS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema", "teacher"),
    *("state_dict", "model_state_dict", "model_state", "model", "module", "network", "net"),
    *("params", "student", "backbone"),
)
# Most dicts around the parameters.
MAX_NESTED = 4


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    count: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _MakeTensor:
    """Replaces torch's functions that make a tensor; a pickle cannot set attributes of it."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        shape, strides = tuple(shape), tuple(strides)
        if not isinstance(storage, _Storage) or len(shape) != len(strides):
            raise pickle.UnpicklingError("a tensor without a storage")
        check_sizes(shape, offset, *strides)
        if math.prod(shape) > storage.count:
            raise pickle.UnpicklingError(
                f"a tensor of more numbers than the {storage.count} of its storage: an expanded one"
                " must be saved as a contiguous copy"
            )
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if 0 not in shape and last >= storage.count:
            raise pickle.UnpicklingError("a tensor beyond the end of its storage")
        return _Tensor(storage, offset, shape, strides)


class _MakeParameter:
    """Replaces the function that wraps a tensor as a parameter."""

    __slots__ = ()

    def __call__(self, data: Any, *_: Any) -> _Tensor:
        if not isinstance(data, _Tensor):
            raise pickle.UnpicklingError("a parameter without a tensor")
        return data


class _MakeSize:
    """Replaces ``torch.Size``."""

    __slots__ = ()

    def __call__(self, numbers: Any = ()) -> tuple[int, ...]:
        size = tuple(numbers)
        if not all(isinstance(n, int) for n in size):
            raise pickle.UnpicklingError("a size that is not of integers")
        return size


# What a parameter can be in a file; of an `Unknown`, or an `Array` without numbers, it is refused.
_Parameter = _Tensor | Array | Unknown

_TORCH = {
    "torch.Size": _MakeSize(),
    **{f"torch._utils._rebuild_tensor{end}": _MakeTensor() for end in ("", "_v2")},
    **{f"torch._utils._rebuild_parameter{end}": _MakeParameter() for end in ("", "_with_state")},
    **{f"torch.{name}": name for name in DTYPES},
}


class _Unpickler(Unpickler):
    """Reads tensors as descriptions of where their numbers are, and numpy's arrays.

    Attributes:
        storages: The parts of the file that hold tensors' numbers, by key.
    """

    def __init__(self, file: BinaryIO, unknown: Names) -> None:
        self.storages: dict[str, _Storage] = {}
        start = file.tell()
        size = file.seek(0, io.SEEK_END) - start
        file.seek(start)
        super().__init__(file, {**_TORCH, **numpy_names(size)}, unknown)

    def persistent_load(self, pid: Any) -> _Storage:
        """The description of a storage."""
        kind, type_name, key, _, count, *view = pid
        if kind != "storage" or type_name not in DTYPES or any(view):
            raise pickle.UnpicklingError(f"unknown storage {pid!r}")
        storage = _Storage(str(key), DTYPES[type_name], int(count))
        return self.storages.setdefault(storage.key, storage)


def _load(file: BinaryIO, unknown: Names) -> tuple[Any, dict[str, _Storage]]:
    """The next pickled object of a file, and its storages; fills `unknown` as `Unpickler` does."""
    unpickler = _Unpickler(file, unknown)
    return unpickler.load(), unpickler.storages


def read_torch(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """The tensors of a state dict, each as a function that reads it.

    The state dict is the file's object, or is found in it under one of `STATE_KEYS`, in up to
    `MAX_NESTED` dicts. The tensors beside it, such as a best score, are not read. A pickle of
    numpy's arrays is in memory as a whole; other files are mapped.

    Raises:
        InputError: If the file is cut short, is not a PyTorch file, or holds no state dict; the
            message is one line that names the file. The function of a parameter raises it if the
            parameter is no tensor but an object of a class that is not loaded.
    """
    unknown: Names = {}
    zipped = zipfile.is_zipfile(path)
    try:
        state, offsets = (_read_zip if zipped else _read_pickles)(path, unknown)
        tensors = _state_dict(state)
    except Exception as error:  # a broken pickle can raise any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        for first in list(unknown.values())[:1]:
            reason += f"; it asks for {first.asked}, which is not loaded: no code is run"
        kind = "PyTorch file" if zipped else "PyTorch file or pickle of arrays"
        raise InputError(f"{path}: not a readable {kind}: {reason}") from error

    def reader(name: str, tensor: _Parameter) -> Callable[[], np.ndarray]:
        if isinstance(tensor, _Tensor):
            return partial(_read_tensor, path, offsets[tensor.storage.key], tensor)
        if isinstance(tensor, Array) and tensor.numbers is not None:
            return partial(np.asarray, tensor.numbers)
        return partial(_refuse, f"{path}: {name} is not a tensor but {tensor.asked}")

    return {name: reader(name, tensor) for name, tensor in tensors.items()}


def _refuse(what: str) -> np.ndarray:
    raise InputError(f"{what}, which is not loaded: no code is run")


def _read_tensor(path: Path, offset: int, tensor: _Tensor) -> np.ndarray:
    """A view of the mapped file."""
    dtype, count = tensor.storage.dtype, tensor.storage.count
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, dtype)
    flat = np.memmap(path, dtype, "r", offset, (count,))
    strides = [dtype.itemsize * stride for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides)


def _read_zip(path: Path, unknown: Names) -> tuple[Any, dict[str, int]]:
    """The pickled object and where each storage starts in the file."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        names = {name.partition("/")[2]: info for name, info in archive.NameToInfo.items()}
        if "data.pkl" not in names:
            raise ValueError("a zip archive without data.pkl")
        if "byteorder" in names and archive.read(names["byteorder"]) != b"little":
            raise ValueError("not of little-endian numbers")
        pickled = names["data.pkl"]
        if pickled.compress_type != zipfile.ZIP_STORED or pickled.file_size > MAX_PICKLE:
            raise ValueError(f"data.pkl is compressed or of more than {MAX_PICKLE} bytes")
        state, storages = _load(io.BytesIO(archive.read(pickled)), unknown)
        offsets = {}
        for key, storage in storages.items():
            info = names[f"data/{key}"]
            size = storage.count * storage.dtype.itemsize
            if info.compress_type != zipfile.ZIP_STORED or info.file_size < size:
                raise ValueError(f"storage {key} is compressed or cut short")
            file.seek(info.header_offset + 26)  # lengths of the name and of the extra field
            offsets[key] = info.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
            if offsets[key] + size > path.stat().st_size:
                raise ValueError(f"storage {key} is cut short")
    return state, offsets


def _read_pickles(path: Path, unknown: Names) -> tuple[Any, dict[str, int]]:
    """As `_read_zip`, for a file from before torch 1.6: five pickles, then the storages.

    A file of another first pickle than torch's consists of this pickle, which has no storages.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first, storages = _load(file, unknown)
        if first != LEGACY_MAGIC:
            if storages:
                raise ValueError("tensors whose numbers are in other files")
            return first, {}
        _load(file, unknown)  # the version of the format
        _load(file, unknown)  # sizes of C's integers on the machine that wrote it
        state, storages = _load(file, unknown)
        keys, _ = _load(file, unknown)
        offsets = {}
        for key in keys:
            storage = storages[key]
            if file.tell() + 8 > size:
                raise ValueError(f"cut short before storage {key}")
            (count,) = struct.unpack("<q", file.read(8))
            offsets[key] = file.tell()
            end = offsets[key] + count * storage.dtype.itemsize
            if count != storage.count or end > size:
                raise ValueError(f"storage {key} is cut short")
            file.seek(end)
    return state, offsets


def _state_dict(state: Any) -> dict[str, _Parameter]:
    """The parameters of a state dict, or of a training script's checkpoint."""
    if isinstance(state, Unknown):
        raise ValueError("it holds an object, not a state dict: in PyTorch, save its state_dict()")
    if not isinstance(state, Mapping):
        raise ValueError(f"it holds a {type(state).__name__}, not a state dict")
    for dotted in (True, False):  # names without a dot are those of a single layer, or of no layer
        if tensors := _find(state, MAX_NESTED, dotted):
            return tensors
    for key in STATE_KEYS:
        if isinstance(state.get(key), Unknown):
            raise ValueError(f"{key!r} is an object, not a state dict: save its state_dict()")
    raise ValueError(f"no state dict under {', '.join(map(str, list(state)[:8])) or 'no key'}")


def _find(state: Mapping[Any, Any], nested: int, dotted: bool) -> dict[str, _Parameter]:
    """The parameters in at most `nested` dicts; empty if there are none.

    Raises:
        ValueError: If there are parameters under several keys that are none of `STATE_KEYS`.
    """
    for key in STATE_KEYS:
        inner = state.get(key)
        if nested and isinstance(inner, Mapping) and (found := _find(inner, nested - 1, dotted)):
            return found
    if found := _parameters(state, dotted):
        return found
    inside = {str(k): _parameters(v, dotted) for k, v in state.items() if isinstance(v, Mapping)}
    inside = {key: tensors for key, tensors in inside.items() if tensors}
    if len(inside) > 1:
        raise ValueError(f"several state dicts, under {', '.join(list(inside)[:8])}: save one")
    return next(iter(inside.values()), {})


def _parameters(state: Mapping[Any, Any], dotted: bool) -> dict[str, _Parameter]:
    """The tensors of a dict, and the objects with a parameter's name, such as a.b.c.

    Empty if there are no tensors; with `dotted`, if no tensor has such a name.
    """
    found = {
        str(name): value
        for name, value in state.items()
        if _has_numbers(value) or ("." in str(name) and isinstance(value, Array | Unknown))
    }
    names = [name for name, value in found.items() if _has_numbers(value)]
    return found if any("." in name or not dotted for name in names) else {}


def _has_numbers(value: Any) -> bool:
    return isinstance(value, _Tensor) or (isinstance(value, Array) and value.numbers is not None)
