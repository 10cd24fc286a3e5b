"""Two processes on one machine in place of two hosts. `make pod-test` runs all of these tests."""

import signal
import socket
import time

import jax
import numpy as np
import pytest
from rich.console import Console

from tests.train.conftest import TINY
from tests.train.modes import RUNS, STEPS, config_of, finish, start
from train import hosts
from train.config import ConfigError, DistributedConfig
from train.hosts import join
from train.log import read_metrics
from train.loop import train


def pod(*arguments, devices=4, count=2):
    """Starts one process for each host."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = (f"--distributed.coordinator=127.0.0.1:{port}", f"--distributed.processes={count}")
    return [
        start(*arguments, *settings, f"--distributed.process={i}", devices=devices)
        for i in range(count)
    ]


def losses(workdir):
    return [entry["train/loss"] for entry in read_metrics(workdir / "metrics.jsonl")]


def wait_for(workdir, step, checkpoint=None):
    """Waits until the step is logged, and until the checkpoint is completely written."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        written = checkpoint is None or (workdir / "checkpoints" / str(checkpoint)).is_dir()
        if len(losses(workdir)) >= step and written:
            return
        time.sleep(0.05)
    raise AssertionError(f"no step {step} in {workdir}")


@pytest.fixture
def one(tmp_path):
    """The losses of a run on one device, and its evaluations."""

    def go(name):
        train(config_of(name), tmp_path / "one", Console(quiet=True))
        return losses(tmp_path / "one"), read_metrics(tmp_path / "one" / "metrics.jsonl")[-1]

    return go


def test_two_processes_give_the_losses_of_one(one, tmp_path):
    processes = pod("tests.train.modes", tmp_path / "two", "vit", "data", devices=1)
    expected, last = one("vit")
    finish(*processes)
    np.testing.assert_allclose(losses(tmp_path / "two"), expected, rtol=1e-5)
    found = read_metrics(tmp_path / "two" / "metrics.jsonl")[-1]
    assert found["eval/top1"] == last["eval/top1"]  # every example counts once
    np.testing.assert_allclose(found["eval/loss"], last["eval/loss"], rtol=1e-5)


def test_processes_that_do_not_know_each_other_are_an_error():
    with pytest.raises(ConfigError, match=r"do not find each other .* --distributed.process=I$"):
        join(DistributedConfig(process=3, processes=2, coordinator="127.0.0.1:1"))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["data", "fsdp", "pmap"])
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_of_four_devices_give_the_losses_of_one(name, mode, one, tmp_path):
    finish(*pod("tests.train.modes", tmp_path / "two", name, mode))
    np.testing.assert_allclose(losses(tmp_path / "two"), one(name)[0], rtol=1e-5)


@pytest.mark.slow
def test_a_checkpoint_goes_from_fsdp_to_one_device_to_two_processes_and_back(one, tmp_path):
    run, modes = tmp_path / "run", "tests.train.modes"
    finish(start(modes, run, "vit", "fsdp", "--steps=20", "--stop=5", devices=8))
    finish(start(modes, run, "vit", "data", "--stop=10", devices=1))
    finish(*pod(modes, run, "vit", "pmap", "--stop=15"))
    finish(start(modes, run, "vit", "fsdp", devices=8))
    np.testing.assert_allclose(losses(run), one("vit")[0], rtol=1e-5)


LONG = ("vit_digits", *TINY, *STEPS, "--steps=4000", "--checkpoint_every=4000")


@pytest.mark.slow
@pytest.mark.parametrize("told", [0, 1])
def test_sigterm_to_either_process_saves_exits_0_and_resumes(told, tmp_path):
    processes = pod("train", *LONG, f"--workdir={tmp_path}", devices=2)
    wait_for(tmp_path, 3)
    processes[told].send_signal(signal.SIGTERM)
    first, _ = finish(*processes)
    step = int(first.split("after step ")[-1].split(";")[0])
    assert (tmp_path / "checkpoints" / str(step)).is_dir()
    processes = pod("train", *LONG, f"--workdir={tmp_path}", "--parallel=pmap", devices=2)
    wait_for(tmp_path, step + 2)
    processes[1 - told].send_signal(signal.SIGTERM)
    first, _ = finish(*processes)
    assert f"after step {step}\n" in first


@pytest.mark.slow
def test_ctrl_c_of_one_process_saves_and_all_exit_130(tmp_path):
    processes = pod("train", *LONG, f"--workdir={tmp_path}", devices=2)
    wait_for(tmp_path, 3)
    processes[1].send_signal(signal.SIGINT)
    first, _ = (process.communicate(timeout=600)[0].decode() for process in processes)
    assert [process.returncode for process in processes] == [130, 130]
    assert "SIGINT: saved" in first


@pytest.mark.parametrize("others", [None, signal.SIGINT])
def test_processes_agree_on_the_signal(monkeypatch, others):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(hosts, "gather", lambda own: [own, others])
    monkeypatch.setattr(
        hosts.multihost_utils, "reached_preemption_sync_point", lambda step: step == 2
    )
    with hosts.caught_signals() as stops:
        assert stops(1) is None
        assert stops(2) == (others or signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_process_dies_the_other_ends_within_a_minute(killed, tmp_path):
    few = (*LONG, f"--workdir={tmp_path}", "--checkpoint_every=5")
    processes = pod("train", *few, devices=2)
    wait_for(tmp_path, 7, checkpoint=5)
    processes[killed].kill()
    begin = time.monotonic()
    output, _ = processes[1 - killed].communicate(timeout=300)
    assert time.monotonic() - begin < 60
    assert processes[1 - killed].returncode != 0
    assert "another task died" in output.decode() or "another process" in output.decode()
    processes[killed].communicate()
    processes = pod("train", *few, devices=2)
    wait_for(tmp_path, 12)
    processes[0].send_signal(signal.SIGTERM)
    assert "resuming" in finish(*processes)[0]
