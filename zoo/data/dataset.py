"""What the loader reads: a random-access source of raw examples, and their transform."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Int, Shaped

from zoo.data.errors import DataError

Example = dict[str, Shaped[np.ndarray, "..."] | np.generic]
Batch = dict[str, Shaped[np.ndarray, "b ..."]]

ERROR = "error"
"""Key of an example's error message; the message is "" if the example is valid."""


class Source(Protocol):
    """A random-access source of raw examples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A source of raw examples, and the transform that makes training or evaluation examples.

    Attributes:
        source: Raw examples. Reading one may raise `DataError`.
        transform: (raw example, random generator) -> example: numpy arrays in the shapes of its
            group, with ``valid``, bool [], True. May raise `DataError`.
        padding: For each group an all-padding example in the group's shapes, ``valid`` False. It
            fills the last batch of an evaluation and replaces examples that cannot be read.
        class_names: Name of each class, by label.
        on_error: Whether an example that raises `DataError` stops the iteration, or is skipped.
        threads: Threads that read and transform, in each worker process; with 0, the process does
            this itself.
        workers: Worker processes; with 0, this process does the work.
        groups: The group of each example, 0 to ``len(padding) - 1``; None puts all in one group.
        files: Files that a run keeps in its folder for evaluations: contents by file name.
    """

    source: Source
    transform: Callable[[Mapping[str, Any], np.random.Generator], Example]
    padding: tuple[Example, ...]
    class_names: tuple[str, ...]
    on_error: Literal["stop", "skip"] = "stop"
    threads: int = 16
    workers: int = 0
    groups: Int[np.ndarray, " n"] | None = None
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    _skipped: set[str] = dataclasses.field(default_factory=set, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def skipped(self) -> int:
        """Number of different examples that have been left out so far because of errors."""
        return len(self._skipped)

    @functools.cached_property
    def members(self) -> tuple[Sequence[int] | Int[np.ndarray, " m"], ...]:
        """The indices of each group's examples, ascending; groups may be empty."""
        if self.groups is None:
            return (range(len(self.source)),)
        return tuple(np.flatnonzero(self.groups == group) for group in range(len(self.padding)))

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """The transformed example, or padding with the reason as ``error`` if it cannot be read."""
        try:
            return {**self.transform(self.source[index], rng), ERROR: np.str_("")}
        except DataError as error:
            group = 0 if self.groups is None else int(self.groups[index])
            return self.padding_example(group, str(error))

    def padding_example(self, group: int, error: str = "") -> Example:
        """The padding of a group, with its ``error``."""
        return {**self.padding[group], ERROR: np.str_(error)}

    def check(self, batch: Batch) -> Batch:
        """Removes ``error`` from a batch; raises the first error, or logs each error once.

        Raises:
            DataError: If an example of the batch could not be read and `on_error` is "stop".
        """
        for error in filter(None, map(str, batch.pop(ERROR))):
            if self.on_error == "stop":
                raise DataError(error)
            if error not in self._skipped:
                self._skipped.add(error)
                logging.getLogger(__name__).warning("left out: %s", error)
        return batch
