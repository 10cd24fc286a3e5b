"""Reads JSON files as typed records, and raises errors that name the wrong records."""

import json
import re
import reprlib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from jaxtyping import Int

from zoo.data.errors import DataError
from zoo.data.formats.folders import read_bytes
from zoo.text_files import FLAGS, TextError, decode_text

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
ImageId = int | float | str
Flag = Int64 | bool

T = TypeVar("T")

_SHOWN = 3  # wrong records that a message lists
_IDS = ("id", "image_id", "category_id")
_FIELDS = ("id", "image_id", "category_id", "score", "bbox", "file_name")


def decode_json(path: str | Path, kind: type[T], what: str, plain: Any = None) -> T:
    """Reads a json file as `kind`; fields that `kind` does not have are ignored.

    A file that does not fit is read again as tools write it: a whole number may be written as 1.0
    or "1", a flag as a word, and null stands for an absent value.

    Args:
        path: The file.
        kind: Type of its contents.
        what: Name of this kind of file in errors.
        plain: Type of the contents if the file does not fit at once. It must not contain
            `msgspec.Raw`. None is `kind`.

    Raises:
        DataError: If the file cannot be read, is not json, or does not fit; the message says where.
    """
    data = read_bytes(path)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    kind = plain or kind
    try:
        content = _decode_slowly(data)
        _as_declared(content, kind)
        return msgspec.convert(content, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise DataError(f"{path}: not {what}: {error}{_value_at(content, str(error))}") from error
    except TextError as error:
        raise DataError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not {what}: {error or 'nested too deeply'}") from error


def _decode_slowly(data: bytes) -> Any:
    """The contents of a json file in any encoding, which may have NaN and Infinity in it."""
    text = decode_text(data)
    if not text.strip():
        raise ValueError("the file is empty")
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text)  # accepts NaN and Infinity; a later check can then name the record


def _as_declared(content: Any, kind: Any) -> None:
    """Removes fields that are null but need not be there, and replaces words of flags."""
    if isinstance(content, list):
        inner = typing.get_args(kind)[0] if typing.get_origin(kind) is list else None
        for item in content if inner else ():
            _as_declared(item, inner)
        return
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return
    for field in msgspec.structs.fields(kind) if isinstance(content, dict) else ():
        value = content.get(field.name)
        if field.name in content and value is None and not field.required:
            del content[field.name]
        elif field.type == Flag and isinstance(value, str):
            content[field.name] = FLAGS.get(value.strip().lower(), value)
        else:
            _as_declared(value, field.type)


def _value_at(content: Any, message: str) -> str:
    """The wrong value that msgspec's message is about, as the end of an error."""
    place = re.search(r"at `\$([^`]*)`$", message)
    for name, row in re.findall(r"\.(\w+)|\[(\d+)\]", place[1] if place else ""):
        if row and isinstance(content, list):
            content = content[int(row)]
        elif isinstance(content, dict):
            content = content.get(name)
    return "" if isinstance(content, list | dict) else f", which is {reprlib.repr(content)}"


def refuse_rows(
    path: str | Path,
    name: str,
    records: Sequence[Any],
    rows: Int[np.ndarray, " n"],
    what: str,
    fields: Sequence[str] = _FIELDS,
) -> None:
    """Raises a `DataError` that lists the first wrong records, if there are any.

    Args:
        path: The file.
        name: Name of the list of records in the file.
        records: All records.
        rows: Positions of the wrong records.
        what: What is wrong with them.
        fields: Fields to show, of the records that have them.
    """
    if not len(rows):
        return
    shown = "; ".join(describe(name, records, row, fields) for row in rows[:_SHOWN].tolist())
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    raise DataError(f"{path}: {what}: {shown}{more}")


def describe(name: str, records: Sequence[Any], row: int, fields: Sequence[str] = _FIELDS) -> str:
    """A record's place in the file, and its fields: ``annotations[1] (id 7, image_id 3)``."""
    values = {field: getattr(records[row], field, None) for field in fields}
    shown = {k: repr(v) if k in _IDS and isinstance(v, str) else v for k, v in values.items()}
    text = ", ".join(f"{k} {v}" for k, v in shown.items() if v is not None and v != ())
    return f"{name}[{row}] ({text})"


def repeated(values: Sequence[ImageId]) -> Int[np.ndarray, " n"]:
    """Positions of values that are equal to an earlier value."""
    seen: set[ImageId] = set()
    rows = [i for i, value in enumerate(values) if value in seen or seen.add(value)]
    return np.array(rows, np.int64)
