"""Reads the files of a data set as a run would, to find those at which the run would stop."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zoo.data import DataError, Dataset

MOST = 5_000  # files of a split that are read unless all are asked for
_SHOWN = 20  # files of a split that are listed


@dataclasses.dataclass(frozen=True)
class Reading:
    """What came of reading files.

    Attributes:
        errors: Why a file cannot be read, one line for each that cannot.
        read: Number of files that were read, those with errors included.
        total: Number of files of the split.
    """

    errors: list[str]
    read: int
    total: int


def has_files(dataset: Dataset) -> bool:
    """Whether the examples are encoded images, rather than drawn ones or texts."""
    try:
        return isinstance(dataset.source[0].get("image"), bytes)
    except DataError:  # its file cannot be read
        return True


def read_files(
    dataset: Dataset,
    transform: Callable[[Mapping[str, Any], np.random.Generator], Any],
    most: int | None,
    console: Console,
    title: str,
) -> Reading:
    """Reads and decodes files in threads, with a progress bar if the console is a terminal.

    Args:
        dataset: Whose files.
        transform: What is done with each example: the transform of an evaluation, which decodes
            and compares all that belongs to an image.
        most: The largest number of files to read, at equal distances; None reads all.
        console: Where the progress bar is shown.
        title: Text beside the bar.
    """
    total = len(dataset)
    count = total if most is None else min(most, total)
    indices = np.unique(np.linspace(0, total - 1, count).astype(int)).tolist()

    def read(index: int) -> str | None:
        try:
            transform(dataset.source[index], np.random.default_rng(0))
        except DataError as error:
            return str(error)
        return None

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    threads = dataset.threads or os.cpu_count() or 1
    with bar, ThreadPoolExecutor(threads) as pool:
        found = list(bar.track(pool.map(read, indices), len(indices), description=title))
    return Reading([error for error in found if error is not None], len(indices), total)


def readable(
    dataset: Dataset,
    indices: Sequence[int],
    convert: Callable[[Mapping[str, Any]], Any] = lambda raw: raw,
) -> Iterator[Any]:
    """The converted raw examples; those that cannot be read are left out if the data set says so.

    Raises:
        DataError: If one cannot be read, and `on_error` of the data set is "stop".
    """
    for index in indices:
        try:
            yield convert(dataset.source[index])
        except DataError:
            if dataset.on_error == "stop":
                raise


def describe(reading: Reading, split: str, folder: Path) -> list[str]:
    """Lines that say how many files of a split cannot be read, and which; none if all can be.

    If there are too many to list, all of them are written to a text file in `folder`.
    """
    errors = reading.errors
    if not errors:
        return []
    lines = [f"{split}: {len(errors)} of {reading.read} files cannot be used"]
    lines += [f"{split}: {error}" for error in errors[:_SHOWN]]
    if len(errors) > _SHOWN:
        path = folder / f"unreadable_{split}.txt"
        path.write_text("\n".join(errors) + "\n", encoding="utf-8")
        lines.append(f"{split}: {len(errors) - _SHOWN} more files; all are listed in {path}")
    return lines
