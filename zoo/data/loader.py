"""One loader for every task: a `Dataset` -> numpy batches of fixed shapes.

An example's place in a run is its *position*: row r of global batch k has position k * b + r. The
seed and the position alone decide which example is there and how it is augmented. So a run sees the
same data with any number of threads, workers and processes, and the only state of a run is the
number of batches it has had. This holds bit for bit as long as the versions of numpy, whose
``default_rng`` may change, and of the libraries that decode and transform stay the same. The
threads and worker processes are grain's.

Examples of different shapes are in *groups* of one shape each. All examples of a batch are from one
group, so that one program is compiled for each group. The seed and the batch's number decide which
group that is.
"""

import contextlib
import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import grain
import numpy as np
from absl import flags
from grain.experimental import ThreadPrefetchDatasetIterator

from zoo.data.dataset import Batch, Dataset, Example
from zoo.data.errors import DataError
from zoo.data.order import epoch_order, group_and_turn

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class _Rows:
    """A source for grain: the examples of one process, from batch `start` on, one after another.

    Grain gives worker w of W the elements w, w + W, ..., and takes a batch of each worker in turn.
    So these elements must be the rows of the batches w, w + W, ...
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
        """Row of a batch when every example comes once, group after group."""
        ends = np.cumsum([-(-count // self.batch_size) for count in self.counts])
        group = min(int(np.searchsorted(ends, batch, side="right")), len(ends) - 1)
        before = int(ends[group - 1]) if group else 0
        place = (batch - before) * self.batch_size + row
        if place >= self.counts[group]:
            return self.dataset.padding_example(group)
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
            if not flags.FLAGS.is_parsed():  # grain needs this before it starts workers
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

    Its state, ``{"batch": k}``, is the number of batches returned so far. It can be written as
    JSON, is the same on every process, and can be restored with any number of processes, workers
    and threads.
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
        """The state after the last batch that was returned."""
        return {"batch": self._next}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Goes to a state: the next batch is the one that followed when `state` was read."""
        self.close()
        self._next = state["batch"]

    def close(self) -> None:
        """Stops the threads and workers; they start again with the next batch."""
        if self._batches is not None:
            self._batches.close()
        self._batches = None


def train_batches(
    dataset: Dataset, batch_size: int, *, seed: int, process_index: int = 0, process_count: int = 1
) -> TrainBatches:
    """An endless iterator of shuffled, augmented batches, with a state that can be saved.

    Every epoch has another order, and a batch may have the end of one epoch and the beginning of
    the next. Each group has its own epochs, and its share of the batches is its share of the
    examples.

    Args:
        dataset: What to read.
        batch_size: Examples in a batch, over all processes.
        seed: At least 0; the seed and an example's position alone decide order and augmentation.
        process_index: Number of this process, p.
        process_count: Number of processes, P; process p has the rows from p * b / P up to
            (p + 1) * b / P of each batch.

    Returns:
        An iterator of batches, whose arrays have the leading axis ``batch_size // process_count``.
        ``get_state()`` returns a dict that can be written as JSON; after ``set_state(state)``
        exactly the same batches follow.

    Raises:
        ValueError: If the batch size does not divide over the processes.
        DataError: While iterating, if an example cannot be read and `on_error` is "stop".
    """
    rows = _process_rows(dataset, batch_size, process_index, process_count)
    return TrainBatches(dataset, batch_size, seed, rows)


class EvalBatches(Iterable[Batch]):
    """The finite iterable of `eval_batches`; every ``iter`` starts at the first batch."""

    def __init__(self, dataset: Dataset, batch_size: int, rows: range):
        self._dataset, self._batch_size, self._rows = dataset, batch_size, rows

    def __len__(self) -> int:
        return sum(-(-len(members) // self._batch_size) for members in self._dataset.members)

    def __iter__(self) -> Iterator[Batch]:
        workers = self._dataset.workers or 1
        stop = -(-len(self) // workers) * workers  # same number for every worker
        rows = _Rows(self._dataset, self._batch_size, self._rows, 0, stop, None)
        with contextlib.closing(rows.batches()) as batches:
            for batch in itertools.islice(batches, len(self)):
                yield self._dataset.check(batch)


def eval_batches(
    dataset: Dataset, batch_size: int, *, process_index: int = 0, process_count: int = 1
) -> EvalBatches:
    """Batches with every example once, in order; groups come one after the other.

    A group's last batch is filled with padding, ``valid`` False. Every process has the same number
    of batches, and each example is on exactly one process.

    Args:
        dataset: What to read.
        batch_size: Examples in a batch, over all processes.
        process_index: Number of this process, p.
        process_count: Number of processes, P; process p has the rows from p * b / P up to
            (p + 1) * b / P of each batch.

    Raises:
        ValueError: If the batch size does not divide over the processes.
        DataError: While iterating, if an example cannot be read and `on_error` is "stop".
    """
    return EvalBatches(
        dataset, batch_size, _process_rows(dataset, batch_size, process_index, process_count)
    )


class _Put(Generic[T]):
    """Batches after `put`, with the state of the iterator that they come from."""

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
    """Calls `put`, which moves a batch to the devices, in a thread that is `size` batches ahead.

    Over `train_batches`, the result has their ``get_state`` and ``set_state``: the state is the one
    after the last batch that was returned, not after those fetched ahead. An error in the thread is
    raised where the batches are consumed. ``close()`` ends the thread.
    """
    return ThreadPrefetchDatasetIterator(_Put(batches, put), size)
