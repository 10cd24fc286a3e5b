import dataclasses
import itertools
import json
import logging
import threading

import jax
import numpy as np
import pytest

from zoo.data import DataError, Dataset, eval_batches, prefetch, train_batches


@dataclasses.dataclass
class Numbers:
    """Examples 0, 1, 2, ..., some of them unreadable."""

    count: int
    broken: tuple[int, ...] = ()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.broken:
            raise DataError(f"numbers/{index}: broken")
        return {"number": index}


def draw(example, rng):
    return {
        "number": np.int32(example["number"]),
        "noise": rng.random(3, np.float32),
        "valid": np.bool_(True),
    }


def numbers(count, broken=(), **options):
    padding = {"number": np.int32(-1), "noise": np.zeros(3, np.float32), "valid": np.bool_(False)}
    options = {"threads": 2, **options}
    return Dataset(Numbers(count, broken), draw, (padding,), ("a", "b"), **options)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


def test_an_epoch_has_every_example_once_and_each_another_order():
    batches = take(train_batches(numbers(20), 5, seed=0), 12)
    epochs = np.concatenate([batch["number"] for batch in batches]).reshape(3, 20)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(20), (3, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_seeds_differ_and_are_not_shifted_epochs_of_each_other():
    orders = set()
    for seed in range(4):
        batches = take(train_batches(numbers(20), 20, seed=seed), 4)
        orders |= {tuple(batch["number"]) for batch in batches}
    assert len(orders) == 16


def test_augmentation_differs_between_epochs_and_examples():
    batches = take(train_batches(numbers(4), 4, seed=0), 10)
    assert len(np.unique(np.concatenate([batch["noise"] for batch in batches]))) == 120


def test_a_data_set_smaller_than_a_batch_runs_on_into_the_next_epoch():
    batch = next(train_batches(numbers(3), 8, seed=0))
    assert np.bincount(batch["number"]).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])
    assert batch["number"].dtype == np.int32
    assert batch["valid"].all()


def test_the_same_for_any_number_of_threads():
    wanted = take(train_batches(numbers(50, threads=0), 8, seed=3), 20)
    for threads in (1, 16):
        assert_equal(take(train_batches(numbers(50, threads=threads), 8, seed=3), 20), wanted)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_have_contiguous_rows_of_the_same_batches(processes):
    wanted = take(train_batches(numbers(50), 8, seed=3), 9)
    parts = [
        take(train_batches(numbers(50), 8, seed=3, process_index=i, process_count=processes), 9)
        for i in range(processes)
    ]
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert len(parts[0][0]["number"]) == 8 // processes
    assert_equal(joined, wanted)


@pytest.mark.slow
def test_worker_processes_change_nothing():
    """They also pass on errors, warnings, state and the end of an evaluation."""
    broken = (5, 11)
    wanted = take(train_batches(numbers(30, broken, on_error="skip"), 4, seed=3), 12)
    dataset = numbers(30, broken, on_error="skip", workers=2)
    batches = train_batches(dataset, 4, seed=3)
    assert_equal(take(batches, 12), wanted)
    assert dataset.skipped == 2
    batches.set_state({"batch": 7})
    assert_equal(take(batches, 5), wanted[7:])
    batches.close()
    assert_equal(list(eval_batches(numbers(9, workers=2), 4)), list(eval_batches(numbers(9), 4)))
    with pytest.raises(DataError, match=r"^numbers/5: broken$"):
        list(eval_batches(numbers(9, broken, workers=2), 4))
    evaluated = numbers(13, broken, on_error="skip", workers=2)
    assert sum(batch["valid"].sum() for batch in eval_batches(evaluated, 4)) == 11
    assert evaluated.skipped == 2


def test_state_is_exact_under_prefetch_and_json():
    batches = prefetch(train_batches(numbers(50), 8, seed=3), jax.device_put, size=3)
    take(batches, 7)
    state = json.loads(json.dumps(batches.get_state()))
    assert state == {"batch": 7}
    wanted = take(batches, 6)
    batches.set_state(state)
    assert batches.get_state() == state
    assert_equal(take(batches, 6), wanted)
    batches.close()

    fresh = prefetch(train_batches(numbers(50, threads=1), 8, seed=3), dict, size=1)
    fresh.set_state(state)
    assert_equal(take(fresh, 6), wanted)
    fresh.close()


def test_state_is_restored_under_another_number_of_processes():
    wanted = take(train_batches(numbers(50), 8, seed=3), 6)
    state = {"batch": 4}
    second = train_batches(numbers(50), 8, seed=3, process_index=1, process_count=2)
    second.set_state(state)
    np.testing.assert_array_equal(next(second)["number"], wanted[4]["number"][4:])


def test_prefetch_runs_ahead_in_another_thread():
    threads, ahead = set(), threading.Semaphore(0)

    def put(batch):
        threads.add(threading.get_ident())
        ahead.release()
        return batch

    batches = prefetch(train_batches(numbers(50), 8, seed=3), put, size=2)
    next(batches)
    for _ in range(3):  # one was taken, two are prepared in advance
        assert ahead.acquire(timeout=10)
    assert threading.get_ident() not in threads
    batches.close()


@pytest.mark.parametrize(
    ("count", "size", "processes"),
    [(1, 1, 1), *((count, 4, processes) for count in (10, 8, 3) for processes in (1, 2, 4))],
)
def test_evaluation_has_every_example_once(count, size, processes):
    parts = [
        list(eval_batches(numbers(count), size, process_index=i, process_count=processes))
        for i in range(processes)
    ]
    assert {len(part) for part in parts} == {-(-count // size)}
    seen = []
    for batch in itertools.chain(*parts):
        assert len(batch["valid"]) == size // processes
        np.testing.assert_array_equal(batch["valid"], batch["number"] >= 0)
        seen += batch["number"][batch["valid"]].tolist()
    assert sorted(seen) == list(range(count))


def test_evaluation_begins_anew_and_ends_under_prefetch():
    batches = eval_batches(numbers(10), 4)
    assert len(batches) == 3
    assert_equal(list(prefetch(batches, dict)), list(batches))


def test_batch_size_must_divide():
    for batches in (eval_batches, lambda *a, **k: train_batches(*a, seed=0, **k)):
        with pytest.raises(ValueError, match=r"10 does not divide over 4 .* that do: 8, 12$"):
            batches(numbers(9), 10, process_count=4)
        with pytest.raises(ValueError, match=r"that do: 4$"):
            batches(numbers(9), 3, process_count=4)


def test_no_examples():
    with pytest.raises(DataError, match="no examples"):
        train_batches(numbers(0), 4, seed=0)


@pytest.mark.parametrize("threads", [0, 8])
def test_an_unreadable_example_stops_the_consumer(threads):
    dataset = numbers(10, broken=(6,), threads=threads)
    for batches in (train_batches(dataset, 5, seed=0), eval_batches(dataset, 5)):
        with pytest.raises(DataError) as caught:
            take(prefetch(batches, dict), 2)
        assert str(caught.value) == "numbers/6: broken"


def test_a_skipped_example_keeps_its_place_and_is_named_once(caplog):
    whole = take(train_batches(numbers(10), 5, seed=0), 6)
    dataset = numbers(10, broken=(6,), on_error="skip")
    with caplog.at_level(logging.WARNING):
        batches = take(train_batches(dataset, 5, seed=0), 6)
    assert caplog.messages == ["left out: numbers/6: broken"]
    assert dataset.skipped == 1
    for batch, complete in zip(batches, whole, strict=True):
        np.testing.assert_array_equal(batch["valid"], complete["number"] != 6)
        np.testing.assert_array_equal(batch["number"][~batch["valid"]], -1)
        np.testing.assert_array_equal(
            batch["noise"][batch["valid"]], complete["noise"][batch["valid"]]
        )
    assert sum(batch["valid"].sum() for batch in eval_batches(dataset, 4)) == 9
    assert dataset.skipped == 1


@dataclasses.dataclass
class Wide:
    """Draws examples whose width depends on their group."""

    groups: np.ndarray

    def __call__(self, example, rng):
        noise = rng.random(self.groups[example["number"]] + 1, np.float32)
        return {**draw(example, rng), "noise": noise}


def grouped(counts, broken=(), **options):
    """Mixed groups with these numbers of examples; an example of group g has g + 1 numbers."""
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    padding = tuple(
        {"number": np.int32(-1), "noise": np.zeros(g + 1, np.float32), "valid": np.bool_(False)}
        for g in range(len(counts))
    )
    options = {"threads": 2, **options}
    source, names = Numbers(len(groups), broken), ("a", "b")
    return Dataset(source, Wide(groups), padding, names, groups=groups, **options)


COUNTS = (50, 0, 13, 2)


def test_a_batch_is_of_one_group_and_groups_have_their_shares():
    dataset = grouped(COUNTS, threads=0)
    batches = take(train_batches(dataset, 4, seed=1), 1100)
    group = np.array([batch["noise"].shape[1] - 1 for batch in batches])
    for batch, own in zip(batches, group, strict=True):
        assert (dataset.groups[batch["number"]] == own).all()
    shares = np.array(COUNTS) / sum(COUNTS)
    for stop in (256, 512, 768, 1024):
        assert np.abs(np.bincount(group[:stop], minlength=4) - shares * stop).max() < 2
    assert len(set(group[:20])) > 1  # groups are mixed, not one after the other


def test_each_group_has_its_own_epochs():
    dataset = grouped(COUNTS, threads=0)
    batches = take(train_batches(dataset, 5, seed=1), 800)
    for own, count in enumerate(COUNTS):
        numbers_ = [b["number"] for b in batches if b["noise"].shape[1] == own + 1]
        if not count:
            assert not numbers_
            continue
        stream = np.concatenate(numbers_)
        epochs = stream[: len(stream) // count * count].reshape(-1, count)
        members = np.flatnonzero(dataset.groups == own)
        np.testing.assert_array_equal(np.sort(epochs), np.tile(members, (len(epochs), 1)))
        assert count < 3 or len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_rare_groups_are_not_forgotten():
    dataset = grouped((20_000, 7), threads=0)
    batches = train_batches(dataset, 1, seed=0)
    rare = sum(next(batches)["noise"].shape[1] == 2 for _ in range(256 * 40))
    assert rare == pytest.approx(256 * 40 * 7 / 20_007, abs=1.5)


def test_groups_restore_anywhere_on_any_number_of_processes():
    wanted = take(train_batches(grouped(COUNTS), 4, seed=3), 600)
    for start in (0, 255, 256, 570):
        parts = []
        for process in range(2):
            batches = train_batches(
                grouped(COUNTS), 4, seed=3, process_index=process, process_count=2
            )
            batches.set_state({"batch": start})
            parts.append(take(batches, 20))
            assert batches.get_state() == {"batch": start + 20}
            batches.close()
        joined = [
            {key: np.concatenate([a[key], b[key]]) for key in a}
            for a, b in zip(*parts, strict=True)
        ]
        assert_equal(joined, wanted[start : start + 20])


@pytest.mark.parametrize("processes", [1, 2])
def test_evaluation_of_groups_has_every_example_once(processes):
    dataset = grouped(COUNTS)
    parts = [
        list(eval_batches(dataset, 4, process_index=i, process_count=processes))
        for i in range(processes)
    ]
    assert {len(part) for part in parts} == {13 + 0 + 4 + 1} == {len(eval_batches(dataset, 4))}
    shapes = [batch["noise"].shape[1] for batch in parts[0]]
    assert shapes == [1] * 13 + [3] * 4 + [4]
    seen = np.concatenate([batch["number"][batch["valid"]] for part in parts for batch in part])
    assert sorted(seen.tolist()) == list(range(sum(COUNTS)))


def test_an_unreadable_example_is_replaced_by_its_groups_padding():
    dataset = grouped(COUNTS, broken=(3, 17), on_error="skip")
    batches = list(eval_batches(dataset, 4))
    assert sum(batch["valid"].sum() for batch in batches) == sum(COUNTS) - 2
    assert dataset.skipped == 2


@pytest.mark.slow
def test_worker_processes_change_nothing_about_groups():
    assert_equal(
        take(train_batches(grouped(COUNTS, workers=2), 4, seed=3), 30),
        take(train_batches(grouped(COUNTS), 4, seed=3), 30),
    )
    assert_equal(
        list(eval_batches(grouped(COUNTS, workers=2), 4)),
        list(eval_batches(grouped(COUNTS), 4)),
    )


@pytest.mark.parametrize("dataset", [numbers(50), grouped((50,))])
def test_what_one_group_sees_stays_as_it_is(dataset):
    """The order must not change between versions, or resumed runs differ; numbers of numpy 2."""
    batches = take(train_batches(dataset, 8, seed=3), 300)
    order = [np.random.default_rng([3, epoch]).permutation(50) for epoch in range(48)]
    seen = np.concatenate([batch["number"] for batch in batches])
    np.testing.assert_array_equal(seen, np.concatenate(order))
    noise = np.random.default_rng([3, 8 * 299]).random(batches[-1]["noise"].shape[1], np.float32)
    np.testing.assert_array_equal(batches[-1]["noise"][0], noise)
