"""Reading PyTorch's files without PyTorch, and without running anything that they hold.

A `.pth`, `.pt` or `.bin` file is a pickle, whose opcodes can call any function that can be
imported. Here an import succeeds only for the few names below, and each of them is replaced by
something inert: tensors become descriptions of where their numbers are, a Namespace becomes a
class of this one call. Any other name is refused. Formats: torch's zip archive (since 1.6) and the
legacy sequence of pickles.
"""

import collections
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from zoo.types import InputError

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
# Where training scripts keep the parameters, better ones first.
STATE_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model", "module")


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    count: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Tensors, dicts, lists, sets, strings and numbers; everything else is refused by name."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}
        self._allowed: dict[str, Any] = {
            "collections.OrderedDict": collections.OrderedDict,
            "argparse.Namespace": type("Namespace", (), {}),
            "builtins.set": set,
            "__builtin__.set": set,
            "torch.Size": tuple,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._parameter,
            **{f"torch.{name}": name for name in DTYPES},
        }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for an allowed name."""
        full = f"{module}.{name}"
        if full not in self._allowed:
            raise pickle.UnpicklingError(f"it asks for {full}, which is not loaded: no code is run")
        return self._allowed[full]

    def persistent_load(self, pid: Any) -> _Storage:
        """The description of a storage."""
        kind, type_name, key, _, count, *view = pid
        if kind != "storage" or type_name not in DTYPES or any(view):
            raise pickle.UnpicklingError(f"unknown storage {pid!r}")
        storage = _Storage(str(key), DTYPES[type_name], int(count))
        return self.storages.setdefault(storage.key, storage)

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or len(shape) != len(strides):
            raise pickle.UnpicklingError("a tensor without a storage")
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise pickle.UnpicklingError("a tensor of negative size")
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if 0 not in shape and last >= storage.count:
            raise pickle.UnpicklingError("a tensor beyond the end of its storage")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))

    def _parameter(self, data: Any, *_: Any) -> Any:
        return data


def read_torch(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """The tensors of a state dict, each as a function that reads it.

    Raises:
        InputError: If the file is cut short, is no PyTorch file, holds no state dict, or asks for
            anything but tensors and plain containers; in one line that names the file.
    """
    try:
        if zipfile.is_zipfile(path):
            state, offsets = _read_zip(path)
        else:
            state, offsets = _read_legacy(path)
        tensors = _state_dict(state)
    except Exception as error:  # a broken pickle can raise anything
        raise InputError(f"{path}: not a readable PyTorch file: {error}") from error

    def reader(tensor: _Tensor) -> Callable[[], np.ndarray]:
        return lambda: _read_tensor(path, offsets[tensor.storage.key], tensor)

    return {name: reader(tensor) for name, tensor in tensors.items()}


def _read_tensor(path: Path, offset: int, tensor: _Tensor) -> np.ndarray:
    """A view of the mapped file."""
    dtype, count = tensor.storage.dtype, tensor.storage.count
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, dtype)
    flat = np.memmap(path, dtype, "r", offset, (count,))
    strides = [dtype.itemsize * stride for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides)


def _read_zip(path: Path) -> tuple[Any, dict[str, int]]:
    """The pickled object and where each storage starts in the file."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        names = {name.partition("/")[2]: info for name, info in archive.NameToInfo.items()}
        if "data.pkl" not in names:
            raise ValueError("a zip archive without data.pkl")
        if "byteorder" in names and archive.read(names["byteorder"]) != b"little":
            raise ValueError("not of little-endian numbers")
        with archive.open(names["data.pkl"]) as pickled:
            unpickler = _Unpickler(pickled)  # pyright: ignore[reportArgumentType] (IO of bytes)
            state = unpickler.load()
        offsets = {}
        for key, storage in unpickler.storages.items():
            info = names[f"data/{key}"]
            size = storage.count * storage.dtype.itemsize
            if info.compress_type != zipfile.ZIP_STORED or info.file_size < size:
                raise ValueError(f"storage {key} is compressed or cut short")
            file.seek(info.header_offset + 26)  # lengths of the name and of the extra field
            offsets[key] = info.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    return state, offsets


def _read_legacy(path: Path) -> tuple[Any, dict[str, int]]:
    """The same of a file from before torch 1.6: five pickles, then the storages in order."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if _Unpickler(file).load() != LEGACY_MAGIC:
            raise ValueError("no magic number")
        _Unpickler(file).load()  # the version of the format
        _Unpickler(file).load()  # sizes of C's integers on the machine that wrote it
        unpickler = _Unpickler(file)
        state, keys = unpickler.load(), _Unpickler(file).load()
        offsets = {}
        for key in keys:
            storage = unpickler.storages[key]
            (count,) = struct.unpack("<q", file.read(8))
            offsets[key] = file.tell()
            end = offsets[key] + count * storage.dtype.itemsize
            if count != storage.count or end > size:
                raise ValueError(f"storage {key} is cut short")
            file.seek(end)
    return state, offsets


def _state_dict(state: Any) -> dict[str, _Tensor]:
    """The parameters of a state dict, or of a training script's checkpoint."""
    if not isinstance(state, Mapping):
        raise ValueError(f"it holds a {type(state).__name__}, not a state dict")
    tensors = {str(k): v for k, v in state.items() if isinstance(v, _Tensor)}
    if tensors:
        return tensors
    for key in STATE_KEYS:
        if isinstance(state.get(key), Mapping):
            return _state_dict(state[key])
    raise ValueError(f"no state dict under {', '.join(map(str, list(state)[:8])) or 'no key'}")
