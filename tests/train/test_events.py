import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from etils import epath

from train.events import read_events
from train.log import MetricsLog, read_metrics

STEPS = (10, 20, 30, 40, 50)


def figures(step):
    return {"train/loss": 1 / step, "train/top1": step / 100}


def write(workdir, *, resumed_at=0, steps: Sequence[int] = STEPS, close=True):
    log = MetricsLog(epath.Path(workdir), resumed_at)
    for step in steps:
        log.write(step, figures(step), {"speed/examples_per_second": step * 10.0})
    if close:
        log.close()
    return log


def check_same(workdir, steps):
    """Both tell the same, and are of these steps."""
    entries = read_metrics(workdir / "metrics.jsonl")
    assert [entry["step"] for entry in entries] == list(steps)
    found = read_events(epath.Path(workdir) / "tensorboard")
    shown = {
        (step, name): np.float32(value)
        for name, values in found.items()
        for step, (_, value) in values.items()
        if not name.startswith("speed/")
    }
    expected = {
        (entry["step"], name): np.float32(value)
        for entry in entries
        for name, value in entry.items()
        if name != "step"
    }
    np.testing.assert_equal(shown, expected)
    return found


def files(workdir):
    return sorted((workdir / "tensorboard").iterdir())


def test_a_logged_step_is_in_the_events_at_once(tmp_path):
    log = write(tmp_path, close=False)  # as if the process was killed
    check_same(tmp_path, STEPS)
    log.close()


def test_resuming_drops_what_came_after_the_checkpoint(tmp_path):
    write(tmp_path)
    write(tmp_path, resumed_at=30, steps=(40,))
    found = check_same(tmp_path, (10, 20, 30, 40))
    assert found["speed/examples_per_second"][30][1] == 300
    assert len(files(tmp_path)) == 2 and files(tmp_path)[1].stat().st_size < 700


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil(path):
    path.write_bytes(b"\x07" * 100)


def remove(path):
    path.unlink()


@pytest.mark.parametrize("damage", [cut, halve, spoil, remove])
def test_resuming_fills_the_events_from_the_metrics(damage, tmp_path):
    write(tmp_path)
    before = read_events(epath.Path(tmp_path) / "tensorboard")
    damage(files(tmp_path)[0])
    write(tmp_path, resumed_at=50, steps=(60,))
    found = check_same(tmp_path, (*STEPS, 60))
    if damage is cut:  # the times and speeds of what was left are kept
        for name, step in (("train/loss", 40), ("speed/examples_per_second", 40)):
            assert found[name][step] == before[name][step]


def test_resuming_corrects_events_that_differ(tmp_path):
    write(tmp_path)
    path = tmp_path / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["train/loss"], lines[3]["train/loss"] = math.nan, 7.0
    lines[4]["eval/top1"] = 0.5
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for _ in range(2):
        write(tmp_path, resumed_at=50, steps=())
        check_same(tmp_path, STEPS)
    assert files(tmp_path)[2].stat().st_size < 300  # nothing was written again


def test_events_are_in_the_order_of_steps(tmp_path):
    """TensorBoard's faster reader drops what it has from a step on when that step comes again."""
    write(tmp_path)
    halve(files(tmp_path)[0])
    write(tmp_path, resumed_at=50, steps=(60,))
    files(tmp_path)[0].unlink()
    found = read_events(epath.Path(tmp_path) / "tensorboard")
    steps = list(found["train/loss"])
    assert steps == sorted(steps) and steps[-2:] == [50, 60]
