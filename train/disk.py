"""Recognises errors of a disk that is full, read-only or broken, in whatever form they come."""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from zoo.types import InputError
from zoo.writing import WriteError

_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


class DiskError(RuntimeError):
    """A file of a run cannot be written."""


def why_not_written(error: BaseException) -> str | None:
    """Why a file could not be written, in one line; None if the error is of another kind.

    Orbax and TensorStore give an error of the disk as the text of an error of their own.
    """
    if isinstance(error, InputError) and not isinstance(error, WriteError):
        return None  # such as data that cannot be read
    link: BaseException | None = error
    while link is not None:
        for code in _OF_DISKS:
            if getattr(link, "errno", None) == code or os.strerror(code) in str(link):
                return os.strerror(code)
        link = link.__cause__ or link.__context__
    return str(error) if isinstance(error, WriteError) else None


@contextmanager
def without_tracebacks() -> Iterator[None]:
    """Keeps the threads of Orbax and TensorStore from printing errors of the disk.

    Orbax raises the same error in the thread that saves or waits. TensorStore's other writes then
    find that their event loop is closed, and asyncio reports them when they are collected as
    garbage, which may be after the block.
    """

    def show(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_keep)
    before, sys.unraisablehook = sys.unraisablehook, show
    try:
        yield
    finally:
        sys.unraisablehook = before


def _keep(record: logging.LogRecord) -> bool:
    """Whether a line of a log is of anything but an error of the disk."""
    error = record.exc_info[1] if record.exc_info else None
    return error is None or why_not_written(error) is None
