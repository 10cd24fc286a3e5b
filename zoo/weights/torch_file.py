"""Reading PyTorch's files without PyTorch, and without running anything that they hold.

A `.pth`, `.pt` or `.bin` file is a pickle, whose opcodes can call any function that can be
imported. Here an import succeeds only for the few names below, and each of them is replaced by
something inert: tensors become descriptions of where their numbers are, a Namespace becomes a
class of this one call. Any other name is refused. Formats: torch's zip archive (since 1.6) and the
legacy sequence of pickles.
"""

import collections
import io
import math
import pickle
import pickletools
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
# Of nested tuples; torch's own files have three.
MAX_DEPTH = 100
# Bytes of the pickle beside the storages; a thousand tensors take 0.2 MB.
MAX_PICKLE = 2**24
# Of a number in a tensor's description; and numpy's axes.
MAX_NUMBER, MAX_AXES = 2**48, 32
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


class _MakeTensor:
    """Stands for torch's functions that make a tensor; no pickle can write to it."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        shape, strides = tuple(shape), tuple(strides)
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or len(shape) != len(strides):
            raise pickle.UnpicklingError("a tensor without a storage")
        if not all(isinstance(n, int) and 0 <= n < MAX_NUMBER for n in numbers):
            raise pickle.UnpicklingError(f"a tensor of sizes that are not 0 to {MAX_NUMBER - 1}")
        if len(shape) > MAX_AXES or math.prod(n for n in shape if n) >= MAX_NUMBER:
            raise pickle.UnpicklingError("a tensor of too many axes or numbers")
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
    """Stands for the function that wraps a tensor as a parameter."""

    __slots__ = ()

    def __call__(self, data: Any, *_: Any) -> _Tensor:
        if not isinstance(data, _Tensor):
            raise pickle.UnpicklingError("a parameter without a tensor")
        return data


class _MakeSize:
    """Stands for ``torch.Size``."""

    __slots__ = ()

    def __call__(self, numbers: Any = ()) -> tuple[int, ...]:
        size = tuple(numbers)
        if not all(isinstance(n, int) for n in size):
            raise pickle.UnpicklingError("a size that is not of integers")
        return size


def _check_pickle(file: BinaryIO) -> None:
    """Refuses a pickle that is too long or nests tuples too deeply; leaves the file where it was.

    To hash a tuple, C code calls itself for each tuple inside it, without a limit: a million nested
    ones end the process. Only these opcodes make tuples of tuples, as `_MakeSize` makes none; the
    depth of whatever is on the stack is followed, of lists and dicts only as far as they are full.
    """
    start = file.tell()
    stack: list[int] = []  # depths; -1 is a mark
    memo: dict[int, int] = {}
    argument: Any
    for op, argument, position in pickletools.genops(file):
        if position is None or position - start > MAX_PICKLE:
            raise ValueError(f"more than {MAX_PICKLE} bytes beside its storages")
        inside, kept = [0], len(op.stack_before)
        if pickletools.markobject in op.stack_before:
            while (depth := stack.pop()) >= 0:
                inside.append(depth)
            kept = op.stack_before.index(pickletools.markobject)
        inside += [stack.pop() for _ in range(kept)]
        depth = max(inside) + op.name.startswith("TUPLE")
        if depth > MAX_DEPTH:
            raise ValueError(f"tuples nested more than {MAX_DEPTH} deep")
        if op.name == "MARK":
            depth = -1
        elif op.name.endswith("GET"):
            depth = memo[argument]
        elif op.name.endswith("PUT") or op.name == "MEMOIZE":
            index = len(memo) if argument is None else argument
            if index > position:  # the unpickler would make a table of as many entries
                raise ValueError(f"an entry {index} of the memo at byte {position}")
            memo[index] = depth if op.stack_before else stack[-1]
        stack += [depth] * len(op.stack_after)
    file.seek(start)


def _load(file: BinaryIO) -> tuple[Any, dict[str, _Storage]]:
    """The next pickled object of a file, and the storages that it names."""
    _check_pickle(file)
    unpickler = _Unpickler(file)
    return unpickler.load(), unpickler.storages


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
            "torch.Size": _MakeSize(),
            "torch._utils._rebuild_tensor": _MakeTensor(),
            "torch._utils._rebuild_tensor_v2": _MakeTensor(),
            "torch._utils._rebuild_parameter": _MakeParameter(),
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
        pickled = names["data.pkl"]
        if pickled.compress_type != zipfile.ZIP_STORED or pickled.file_size > MAX_PICKLE:
            raise ValueError(f"data.pkl is compressed or of more than {MAX_PICKLE} bytes")
        state, storages = _load(io.BytesIO(archive.read(pickled)))
        offsets = {}
        for key, storage in storages.items():
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
        if _load(file)[0] != LEGACY_MAGIC:
            raise ValueError("no magic number")
        _load(file)  # the version of the format
        _load(file)  # sizes of C's integers on the machine that wrote it
        state, storages = _load(file)
        keys, _ = _load(file)
        offsets = {}
        for key in keys:
            storage = storages[key]
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
