"""A checksum of a run's data, by which a moved folder is recognised as the same data."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.data import DataError, Dataset

COMPARED = 64
"""Number of examples of a split whose content is in the checksum."""

_PATHS = ("name", "mask_name")  # what a raw example is called in errors: its path


def data_checksum(examples: Dataset) -> str:
    """A checksum of a split: of the number of examples, the classes, and some examples.

    The examples are `COMPARED` at equal distances, as they are read: the bytes of the files, labels
    and annotations, but not the paths. So it needs no time that grows with the data, and does not
    notice a change in other files that leaves their number and order as they were.
    """
    digest = hashlib.sha256()
    _add(digest, (len(examples), examples.class_names))
    chosen = np.linspace(0, len(examples) - 1, min(COMPARED, len(examples))).astype(int)
    for index in chosen.tolist():
        try:
            _add(digest, examples.source[index])
        except DataError:
            _add(digest, "unreadable")
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Adds a value with its type and length, so that different values never give the same bytes."""
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        value = sorted((name, x) for name, x in value.items() if name not in _PATHS)
    if isinstance(value, np.ndarray):
        _add(digest, (str(value.dtype), value.shape))
        value = np.ascontiguousarray(value).tobytes()
    if isinstance(value, (list, tuple)):
        digest.update(f"list {len(value)};".encode())
        for x in value:
            _add(digest, x)
        return
    data = value if isinstance(value, bytes) else repr(value).encode()
    digest.update(f"{type(value).__name__} {len(data)};".encode())
    digest.update(data)
