"""Reads pickles of tensors and arrays without running any code that they contain.

The opcodes of a pickle can call any function that can be imported. Here nothing is imported. A few
names are replaced by something harmless, by `zoo.weights.torch_file` for PyTorch's tensors and by
`zoo.weights.numpy_pickle` for numpy's arrays. Any other name, such as the class of a training
script's settings, is replaced by an empty object that ignores all that the pickle does to it.
"""

import collections
import math
import pickle
import pickletools
from collections.abc import Mapping
from typing import Any, BinaryIO

# Greatest depth of nested tuples; torch's own files have three.
MAX_DEPTH = 100
# Most bytes of a pickle beside its long strings; a thousand tensors take 0.2 MB.
MAX_PICKLE = 2**24
# Bytes from which on a string is a long one, such as the numbers of an array.
LONG = 2**10
# Bound of the numbers in a tensor's description, and most axes of a tensor.
MAX_NUMBER, MAX_AXES = 2**48, 32
# Most names that are replaced by empty objects in one file.
MAX_NAMES = 1000


class Unknown:
    """Replaces an object of a class that is not loaded; it ignores all that a pickle does to it.

    `Unpickler` makes a subclass for each name, with the name as `asked`.
    """

    __slots__ = ()
    asked = ""

    def __new__(cls, *_: Any, **__: Any) -> "Unknown":
        """An empty object, whatever the arguments are."""
        return super().__new__(cls)

    def __call__(self, *_: Any, **__: Any) -> "Unknown":
        """Stands for a function, too."""
        return self

    def _ignore(*_: Any, **__: Any) -> None:
        """Does nothing."""

    __setstate__ = __setitem__ = append = extend = add = _ignore


Names = dict[str, type[Unknown]]


class Unpickler(pickle.Unpickler):
    """Reads what the allowed names make, dicts, lists, sets, strings and numbers.

    All else becomes an `Unknown`, and its name is added to `unknown`.
    """

    def __init__(self, file: BinaryIO, allowed: Mapping[str, Any], unknown: Names) -> None:
        _check_pickle(file)
        super().__init__(file, encoding="latin1")  # strings of Python 2 hold numbers of numpy
        self._unknown = unknown
        self._allowed = {
            "collections.OrderedDict": collections.OrderedDict,
            "builtins.set": set,
            "__builtin__.set": set,
            **allowed,
        }

    def find_class(self, module: str, name: str) -> Any:
        """The replacement of a name."""
        full = f"{module}.{name}"
        if full in self._allowed:
            return self._allowed[full]
        if full not in self._unknown:
            if len(self._unknown) == MAX_NAMES:
                raise pickle.UnpicklingError(f"it asks for more than {MAX_NAMES} names")
            asked = " ".join(full.split())
            self._unknown[full] = type("Unknown", (Unknown,), {"__slots__": (), "asked": asked})
        return self._unknown[full]


def check_sizes(shape: tuple[Any, ...], *more: Any) -> None:
    """Refuses what no tensor can have.

    Args:
        shape: Its shape.
        *more: Other numbers that describe it: strides, an offset.

    Raises:
        pickle.UnpicklingError: If a number is not a whole one or out of its range, or if there are
            too many axes or numbers.
    """
    if not all(isinstance(n, int) and 0 <= n < MAX_NUMBER for n in (*shape, *more)):
        raise pickle.UnpicklingError(f"a tensor of sizes that are not 0 to {MAX_NUMBER - 1}")
    if len(shape) > MAX_AXES or math.prod(n for n in shape if n) >= MAX_NUMBER:
        raise pickle.UnpicklingError("a tensor of too many axes or numbers")


def _check_pickle(file: BinaryIO) -> None:
    """Refuses a pickle that is too long or nests tuples too deeply; keeps the file's position.

    To hash a tuple, C code calls itself for each tuple inside it, without a limit: a million nested
    tuples crash the process. Only the opcodes ``TUPLE...`` make tuples of tuples: what
    replaces a name must not. The loop tracks the depth of every object on the stack; the depth of a
    list or dict covers the items that it has so far.
    """
    start = file.tell()
    try:
        _check_opcodes(file, start)
    except ValueError as error:
        if not file.read(1):
            raise ValueError(f"cut short: its pickle has no end ({error})") from error
        raise
    file.seek(start)


def _check_opcodes(file: BinaryIO, start: int) -> None:
    """Reads the opcodes of a pickle that begins at byte `start`: see `_check_pickle`."""
    stack: list[int] = []  # depths; -1 is a mark
    memo: dict[int, int] = {}
    before, long = start, 0  # where the previous opcode is; bytes of long strings
    argument: Any
    for op, argument, position in pickletools.genops(file):
        if position is not None:
            long += max(0, position - before - LONG)
            before = position
        if position is None or position - start - long > MAX_PICKLE:
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
            if index > position:  # the unpickler would make a table of that length
                raise ValueError(f"an entry {index} of the memo at byte {position}")
            memo[index] = depth if op.stack_before else stack[-1]
        stack += [depth] * len(op.stack_after)
