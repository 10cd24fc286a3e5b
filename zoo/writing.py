"""Writes files completely or not at all."""

import os
from contextlib import suppress
from typing import Any

from zoo.types import InputError


class WriteError(InputError):
    """A file cannot be written: the disk is full, read-only or broken, or the folder forbids it."""


def write_whole(path: Any, data: bytes | str) -> None:
    """Writes a file that is complete or, if the disk is full or the process killed, not there.

    The data go to a new file in the same folder, which is then renamed. An older file at the path
    is replaced, or stays as it is if the new one cannot be written.

    Args:
        path: A `pathlib.Path`, or a path of etils, which may be in a bucket.
        data: The content; text is written in UTF-8.

    Raises:
        WriteError: If the file cannot be written.
    """
    content = data.encode() if isinstance(data, str) else data
    remote = "://" in str(path)  # a bucket shows an object only when it is complete
    part = path if remote else path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        if not remote:
            os.replace(part, path)
    except OSError as error:
        if not remote:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        raise WriteError(f"{path}: cannot be written: {error.strerror or error}") from error
