import errno
import json
import os
import pkgutil
import re
from pathlib import Path

import orbax.checkpoint as ocp
import pytest

import eval.classification
import train.log
from tests.train.conftest import TINY
from train.__main__ import main
from train.disk import DiskError, why_not_written
from zoo.data import DataError
from zoo.writing import WriteError

STEPS = ("--steps=40", "--log_every=5", "--eval_every=20", "--checkpoint_every=10")


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def after(count, function):
    """The function, which fails as on a full disk after a number of calls."""
    calls = []

    def call(*arguments, **fields):
        calls.append(1)
        return full() if len(calls) > count else function(*arguments, **fields)

    return call


FILES = {
    "a line of metrics.jsonl": ("train.log._append", 3, 10),
    "an event": ("train.events.RecordWriter.flush", 6, 20),
    "a picture": ("eval.pictures.write_whole", 0, 40),
    "config.json": ("train.workdir.write_whole", 0, None),
}


@pytest.mark.parametrize("what", FILES)
def test_a_full_disk_is_one_line_that_names_the_last_good_checkpoint(
    what, tmp_path, capsys, monkeypatch
):
    place, calls, good = FILES[what]
    with monkeypatch.context() as patch:
        patch.setattr(place, after(calls, pkgutil.resolve_name(place)))
        assert main(["vit_digits", f"--workdir={tmp_path / 'run'}", *TINY, *STEPS]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "No space left on device" in error
    named = re.search(r"last good checkpoint: (.*?);", error)[1]
    run = tmp_path / "run"
    assert named == ("none yet" if good is None else str(run / "checkpoints" / str(good)))
    check_whole(run)
    assert main(["vit_digits", f"--workdir={run}", *TINY, *STEPS]) == 0


def check_whole(run):
    """No file is empty, unfinished or half-written."""
    for path in run.rglob("*"):
        assert not path.name.endswith(".part") and ".orbax-checkpoint-tmp" not in path.name
        if path.is_file() and path.name not in (".lock", "metrics.jsonl"):
            assert path.stat().st_size, path
    if (run / "metrics.jsonl").exists():
        for line in (run / "metrics.jsonl").read_text().splitlines():
            json.loads(line)


def test_a_checkpoint_that_does_not_fit(run, tmp_path, monkeypatch, capfd):
    save = ocp.StandardCheckpointHandler.finalize
    monkeypatch.setattr(ocp.StandardCheckpointHandler, "finalize", after(4, save))
    with pytest.raises(DiskError, match=r"last good checkpoint: \S*/run/checkpoints/20; "):
        run(*STEPS)
    assert "Traceback" not in capfd.readouterr().err
    check_whole(tmp_path / "run")
    monkeypatch.undo()
    assert run(*STEPS)[1].step == 40


def test_a_line_of_which_a_part_got_in_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    real = Path.open

    class Full:
        def __init__(self, *arguments):
            self.file = real(*arguments)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            self.file.write(data[:5])
            self.file.flush()
            full()

    monkeypatch.setattr(Path, "open", lambda *arguments: Full(*arguments))
    with pytest.raises(OSError, match="No space left"):
        train.log._append(path, '{"step": 2}\n')
    monkeypatch.undo()
    assert path.read_text() == '{"step": 1}\n'


def test_an_evaluation_on_a_full_disk(run, monkeypatch, capsys, tmp_path):
    workdir, *_ = run("--steps=2")
    capsys.readouterr()
    monkeypatch.setattr(Path, "write_bytes", full)
    command = [f"--workdir={workdir}", f"--json={tmp_path / 'figures.json'}"]
    assert eval.classification.main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "confusion_matrix.png: cannot be written: No space" in error
    assert not list(workdir.glob("*matrix*")) and not (tmp_path / "figures.json").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EDQUOT, "x"), os.strerror(errno.EDQUOT)),
        (ValueError("RESOURCE_EXHAUSTED: ...: No space left on device [28]"), "No space left"),
        (WriteError("a.json: cannot be written: Permission denied"), "a.json: cannot"),
        (ValueError("out of memory"), None),
        (DataError("x.jpg: cannot be read: Input/output error"), None),
    ],
)
def test_errors_of_disks_are_told_from_others(error, reason):
    found = why_not_written(error)
    assert found is None if reason is None else found.startswith(reason)


def test_an_error_of_a_disk_is_found_behind_others():
    try:
        try:
            full()
        except OSError as error:
            raise RuntimeError("saving failed") from error
    except RuntimeError as error:
        assert why_not_written(error) == "No space left on device"
