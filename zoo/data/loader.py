"""One loader for every task: random-access source -> transform -> fixed-shape numpy batches.

An example's place in a run is its *position*: row r of global batch k has position k * b + r. The
position and the seed alone decide which example stands there and how it is augmented, so neither
threads nor workers nor processes change what a run sees, and a run's state is the number of
batches it has had. That holds bit for bit with the same version of numpy, whose ``default_rng`` may
draw other numbers in another, and of the libraries that decode and transform. Threads and worker
processes are grain's.

Where examples have different shapes they are in *groups* of one shape, and a batch is of one
group, so that a program is compiled for each group and no more. Which group a batch is of, the seed
and the batch's number decide as well.
"""

import contextlib
import dataclasses
import functools
import itertools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

import grain
import numpy as np
from absl import flags
from grain.experimental import ThreadPrefetchDatasetIterator
from jaxtyping import Int

from zoo.data.errors import DataError
from zoo.data.order import epoch_order, group_and_turn

Example = dict[str, np.ndarray | np.generic]
Batch = dict[str, np.ndarray]
T = TypeVar("T")

_ERROR = "error"  # travels beside an example to the consumer: what is wrong with it, or ""


class Source(Protocol):
    """A random-access source of raw examples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A source of raw examples and what makes training or evaluation examples of them.

    Attributes:
        source: Raw examples. Reading one may raise `DataError`.
        transform: (raw example, random generator) -> example of its group's shapes, numpy arrays
            that include ``valid``, bool [], True. May raise `DataError`.
        padding: For each group an example of its shapes that is nothing, ``valid`` False: it fills
            up the last batch of an evaluation and stands in for examples that cannot be read.
        class_names: Name of each class, by label.
        on_error: An example that raises `DataError` stops the iteration, or is skipped.
        threads: Threads that read and transform, in each worker process; 0 for none.
        workers: Worker processes; 0 does the work in this one.
        groups: The group of each example, 0 to ``len(padding) - 1``; None is one group.
        files: What else an evaluation needs: contents, by the name of a file in a run's folder.
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
        """How many classes there are."""
        return len(self.class_names)

    @property
    def skipped(self) -> int:
        """How many different examples have been left out so far because of errors."""
        return len(self._skipped)

    @functools.cached_property
    def members(self) -> tuple[Sequence[int] | Int[np.ndarray, " m"], ...]:
        """The indices of each group's examples, ascending; groups may be empty."""
        if self.groups is None:
            return (range(len(self.source)),)
        return tuple(np.flatnonzero(self.groups == group) for group in range(len(self.padding)))

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """The transformed example, or padding; ``error`` says what is wrong with it, or is ""."""
        try:
            return {**self.transform(self.source[index], rng), _ERROR: np.str_("")}
        except DataError as error:
            group = 0 if self.groups is None else self.groups[index]
            return {**self.padding[group], _ERROR: np.str_(error)}

    def check(self, batch: Batch) -> Batch:
        """The batch without its ``error``, after raising it, or warning of it once.

        Raises:
            DataError: If an example of it could not be read and `on_error` is "stop".
        """
        for error in filter(None, map(str, batch.pop(_ERROR))):
            if self.on_error == "stop":
                raise DataError(error)
            if error not in self._skipped:
                self._skipped.add(error)
                logging.getLogger(__name__).warning("left out: %s", error)
        return batch


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The examples of one process, flat, from batch `start` on, as a source for grain.

    Worker w of W is given the elements w, w + W, ... and its batches are taken in turns, so these
    must be the rows of the batches w, w + W, ...
    """

    dataset: Dataset
    batch_size: int
    rows: range
    start: int
    stop: int
    seed: int | None

    def __len__(self) -> int:
        return (self.stop - self.start) * len(self.rows)

    def __getitem__(self, index: int) -> Example:
        workers = self.dataset.workers or 1
        turn, worker = divmod(index, workers)
        turn, row = divmod(turn, len(self.rows))
        batch = self.start + turn * workers + worker
        return self._at(batch, self.rows[row])

    @functools.cached_property
    def counts(self) -> tuple[int, ...]:
        return tuple(map(len, self.dataset.members))

    def _at(self, batch: int, row: int) -> Example:
        if self.seed is None:
            return self._in_order(batch, row)
        group, turn = group_and_turn(self.seed, batch, self.counts)
        epoch, place = divmod(turn * self.batch_size + row, self.counts[group])
        order = epoch_order(self.seed, epoch, group, self.counts)
        index = int(self.dataset.members[group][order[place]])
        rng = np.random.default_rng([self.seed, batch * self.batch_size + row])
        return self.dataset.example(index, rng)

    def _in_order(self, batch: int, row: int) -> Example:
        """Each example once, group after group."""
        ends = np.cumsum([-(-count // self.batch_size) for count in self.counts])
        group = min(int(np.searchsorted(ends, batch, side="right")), len(ends) - 1)
        before = int(ends[group - 1]) if group else 0
        place = (batch - before) * self.batch_size + row
        if place >= self.counts[group]:
            return {**self.dataset.padding[group], _ERROR: np.str_("")}
        index = int(self.dataset.members[group][place])
        return self.dataset.example(index, np.random.default_rng(index))

    def batches(self) -> grain.DatasetIterator[Batch]:
        threads = self.dataset.threads
        ahead = max(threads, min(500, 2 * len(self.rows))) if threads else 0
        examples = grain.MapDataset.source(self).to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        )
        batches = examples.batch(len(self.rows))
        if self.dataset.workers:
            if not flags.FLAGS.is_parsed():  # grain reads its flags when it starts workers
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(self.dataset.workers, per_worker_buffer_size=2)
            batches = batches.mp_prefetch(options)
        return iter(batches)


def _process_rows(dataset: Dataset, batch_size: int, process: int, processes: int) -> range:
    if not len(dataset):
        raise DataError("the data set has no examples")
    if batch_size < 1 or batch_size % processes:
        below = batch_size // processes * processes
        allowed = [str(size) for size in (below, below + processes) if size > 0]
        raise ValueError(
            f"batch size {batch_size} does not divide over {processes} processes;"
            f" the next that do: {', '.join(allowed)}"
        )
    rows = batch_size // processes
    return range(process * rows, (process + 1) * rows)


class TrainBatches(Iterator[Batch]):
    """The infinite iterator of `train_batches`.

    Its state, ``{"batch": k}``, is the number of batches handed out: JSON, the same on every
    process, and restored under any number of processes, workers and threads.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, rows: range):
        self._dataset, self._batch_size, self._seed, self._rows = dataset, batch_size, seed, rows
        self._next = 0
        self._batches: grain.DatasetIterator[Batch] | None = None

    def __next__(self) -> Batch:
        if self._batches is None:
            last = sys.maxsize // self._batch_size
            rows = _Rows(self._dataset, self._batch_size, self._rows, self._next, last, self._seed)
            self._batches = rows.batches()
        batch = self._dataset.check(next(self._batches))
        self._next += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """The state after the batch handed out last."""
        return {"batch": self._next}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Makes the next batch the one that came next when `state` was taken."""
        self.close()
        self._next = state["batch"]

    def close(self) -> None:
        """Ends the threads and workers; they start again with the next batch."""
        if self._batches is not None:
            self._batches.close()
        self._batches = None


def train_batches(
    dataset: Dataset, batch_size: int, *, seed: int, process_index: int = 0, process_count: int = 1
) -> TrainBatches:
    """An endless stream of shuffled, augmented batches, an iterator with a state.

    Each epoch has an order of its own, and epochs run into each other within a batch. Of several
    groups, each has its own epochs, and as large a share of the batches as of the examples.

    Args:
        dataset: What to read.
        batch_size: Examples in a batch over all processes.
        seed: Decides order and augmentation, together with nothing but the position; at least 0.
        process_index: This process.
        process_count: All of them; process p has rows [p * b / P, (p + 1) * b / P) of each batch.

    Returns:
        An iterator of batches, arrays with leading axis ``batch_size // process_count``, with
        ``get_state()`` (a dict that JSON can hold) and ``set_state(state)``, both exact.

    Raises:
        ValueError: If the batch size does not divide over the processes.
        DataError: While iterating, if an example cannot be read and `on_error` is "stop".
    """
    rows = _process_rows(dataset, batch_size, process_index, process_count)
    return TrainBatches(dataset, batch_size, seed, rows)


class EvalBatches(Iterable[Batch]):
    """The finite iterable of `eval_batches`; every ``iter`` begins anew."""

    def __init__(self, dataset: Dataset, batch_size: int, rows: range):
        self._dataset, self._batch_size, self._rows = dataset, batch_size, rows

    def __len__(self) -> int:
        return sum(-(-len(members) // self._batch_size) for members in self._dataset.members)

    def __iter__(self) -> Iterator[Batch]:
        workers = self._dataset.workers or 1
        stop = -(-len(self) // workers) * workers  # as many for every worker; the rest is padding
        rows = _Rows(self._dataset, self._batch_size, self._rows, 0, stop, None)
        with contextlib.closing(rows.batches()) as batches:
            for batch in itertools.islice(batches, len(self)):
                yield self._dataset.check(batch)


def eval_batches(
    dataset: Dataset, batch_size: int, *, process_index: int = 0, process_count: int = 1
) -> EvalBatches:
    """Every example once, in order, in batches of one shape; groups come one after the other.

    A group's last batch is filled up with padding, ``valid`` False. Every process has the same
    number of batches, and each example is on exactly one process.

    Args:
        dataset: What to read.
        batch_size: Examples in a batch over all processes.
        process_index: This process.
        process_count: All of them; process p has rows [p * b / P, (p + 1) * b / P) of each batch.

    Raises:
        ValueError: If the batch size does not divide over the processes.
        DataError: While iterating, if an example cannot be read and `on_error` is "stop".
    """
    return EvalBatches(
        dataset, batch_size, _process_rows(dataset, batch_size, process_index, process_count)
    )


class _Put(Generic[T]):
    """Batches after `put`, with the state of the iterator they come from."""

    def __init__(self, batches: Iterable[Batch], put: Callable[[Batch], T]):
        self._batches, self._put = iter(batches), put

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return self._put(next(self._batches))

    def get_state(self) -> Any:
        return self._batches.get_state() if isinstance(self._batches, TrainBatches) else {}

    def set_state(self, state: Any) -> None:
        if not isinstance(self._batches, TrainBatches):
            raise TypeError("only training batches have a state to set")
        self._batches.set_state(state)


def prefetch(
    batches: Iterable[Batch], put: Callable[[Batch], T], size: int = 2
) -> ThreadPrefetchDatasetIterator[T]:
    """Runs `put`, which moves a batch to the devices, in a thread, `size` batches ahead.

    Over `train_batches` the result has their ``get_state`` and ``set_state``, exactly: the state
    is that after the batch handed out last, whatever has been fetched ahead. What is raised in the
    thread is raised at the consumer. ``close()`` ends the thread.
    """
    return ThreadPrefetchDatasetIterator(_Put(batches, put), size)
