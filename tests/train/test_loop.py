import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import zoo
from tests.train.conftest import TINY
from train.config import ConfigError
from train.log import read_metrics
from train.loop import DivergedError, _Run
from train.workdir import locked

STEPS = ("--steps=40", "--log_every=10", "--eval_every=20", "--checkpoint_every=10")


def test_a_run_leaves_what_it_should(run):
    workdir, result, output = run(*STEPS)
    entries = read_metrics(workdir / "metrics.jsonl")
    assert [entry["step"] for entry in entries] == [10, 20, 30, 40]
    assert {"train/loss", "train/top1", "train/learning_rate", "train/grad_norm"} < entries[
        0
    ].keys()
    assert "eval/top1" not in entries[0]
    assert entries[-1]["eval/top1"] == result.figures["top1"]
    assert (result.step, result.signal) == (40, None)
    config = json.loads((workdir / "config.json").read_text())
    assert config["model"]["fields"]["num_classes"] == 10
    assert config["model"]["fields"]["image_size"] == [8, 8]
    assert (workdir / "learning_curve.png").stat().st_size > 10_000
    assert list((workdir / "tensorboard").iterdir())
    assert "step 40" in output
    said = [
        "compiling the first state",
        "compiled the first",
        "compiling a step",
        "compiled a step",
    ]
    places = [output.index(text) for text in (*said, "step 10 ")]
    assert places == sorted(places)
    assert re.search(r"compiled a step of vit_nano_patch4_32 in \d+\.\d s\n", output)


def test_the_same_recipe_gives_the_same_losses_and_the_seed_changes_them(run):
    first, *_ = run(*STEPS, workdir="a")
    second, *_ = run(*STEPS, "--data.threads=5", workdir="b")
    other, *_ = run(*STEPS, "--seed=1", workdir="c")
    assert (first / "metrics.jsonl").read_text() == (second / "metrics.jsonl").read_text()
    assert (first / "metrics.jsonl").read_text() != (other / "metrics.jsonl").read_text()


def test_the_best_and_the_latest_checkpoints_are_kept(run):
    workdir, *_ = run(*STEPS, "--keep=1", "--optim.learning_rate=0.01")
    top1 = {
        entry["step"]: entry["eval/top1"]
        for entry in read_metrics(workdir / "metrics.jsonl")
        if "eval/top1" in entry
    }
    kept = {int(path.name) for path in (workdir / "checkpoints").iterdir()}
    assert kept == {40, max(top1, key=lambda step: top1[step])}


def test_no_compile_after_the_first_steps(run, monkeypatch, caplog):
    """After the first log, evaluation and checkpoint, nothing is compiled again."""
    reported = []
    report = _Run.report

    def remember(self, step, *rest):
        report(self, step, *rest)
        reported.append((step, len(caplog.records)))

    monkeypatch.setattr(_Run, "report", remember)
    with jax.log_compiles():
        run("--steps=60", "--log_every=5", "--eval_every=20", "--checkpoint_every=7")
    compiled = [i for i, r in enumerate(caplog.records) if r.getMessage().startswith("Compiling")]
    assert compiled
    after_first_evaluation = dict(reported)[20]
    assert [caplog.records[i].getMessage() for i in compiled if i >= after_first_evaluation] == []


def test_a_loss_that_is_not_finite_stops_and_names_step_checkpoint_and_batch(run):
    with pytest.raises(DivergedError) as error:
        run(
            "--steps=200",
            "--checkpoint_every=2",
            "--log_every=5",
            "--optim.learning_rate=1e30",
            "--optim.clip_norm=none",
            "--optim.warmup_steps=6",
            "--optim.name=sgd",
        )
    message = str(error.value)
    step = int(message.split("at step ")[1].split(";")[0])
    workdir = Path(message.split("its batch: ")[1].split("/bad_batch")[0])
    with np.load(workdir / f"bad_batch_step{step}.npz") as batch:
        assert batch["image"].shape == (16, 8, 8, 3)
    good = Path(message.split("last good checkpoint: ")[1])
    assert good.is_dir() and int(good.name) < step
    assert max(int(path.name) for path in good.parent.iterdir()) == int(good.name)


def test_another_configuration_does_not_go_into_the_same_folder(run, tmp_path):
    run(*STEPS)
    with pytest.raises(
        ConfigError, match=r"holds a run with optim\.learning_rate=0\.\d+, not 1\.0"
    ):
        run(*STEPS, "--optim.learning_rate=1")
    with pytest.raises(ConfigError, match=r"model\.num_classes is 5, but the data have 10"):
        run(*STEPS, "--model.num_classes=5", workdir="other")
    assert not (tmp_path / "other").exists()


def test_a_finished_run_stays_as_it_is(run):
    workdir, *_ = run(*STEPS)
    before = (workdir / "metrics.jsonl").read_text()
    _, result, output = run(*STEPS)
    assert result.step == 40
    assert "resuming" in output
    assert (workdir / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("ema", ["none", "0.9"])
def test_a_run_starts_from_a_checkpoint(run, tiny, tmp_path, ema):
    fields = {"num_classes": 3, "image_size": 16, "patch_size": 4, "num_layers": 1}
    fields |= {"hidden_dim": 16, "num_heads": 2, "mlp_dim": 32}
    model = zoo.create("vit_nano_patch4_32", **fields)
    variables = model.init(jax.random.key(3), jnp.zeros((1, 16, 16, 3)))
    zoo.save(model, variables, tmp_path / "timm.safetensors", source="timm")
    # With a learning rate of zero, the saved variables are those that the run started from.
    still = ("--optim.learning_rate=0", f"--ema={ema}", "--steps=2")
    workdir, _, output = run(f"--init={tmp_path / 'timm.safetensors'}", *still)
    assert "pos_embed" in output and "head/kernel" in output  # resized; initialised
    _, found = zoo.load(workdir)
    for name in ("patch_embed", "blocks_0", "norm", "cls_token"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
            found["params"][name],
            variables["params"][name],
        )
    assert found["params"]["pos_embed"].shape == (2, 2, 16)


def test_a_start_that_failed_does_not_claim_the_folder(run):
    with pytest.raises(ConfigError, match=r"vit_nano.*: image of 8 x 8 px does not divide"):
        run(*STEPS, "--model.patch_size=3")
    _, result, _ = run(*STEPS)
    assert result.step == 40


def test_one_process_at_a_time(run, tmp_path):
    with locked(tmp_path / "run"), pytest.raises(ConfigError, match="another process is training"):
        run(*STEPS)
    run(*STEPS)


def test_profiled_steps_leave_a_trace_and_the_time_is_split(run):
    workdir, _, output = run(*STEPS, "--profile.steps=3:4")
    (trace,) = (workdir / "profile").rglob("perfetto_trace.json.gz")
    with gzip.open(trace) as file:
        names = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert any("jit_logged" in str(name) or "PjitFunction(logged)" in str(name) for name in names)
    assert f"trace: {workdir / 'profile'}" in output
    spent = re.search(r"([\d.]+) s: start ([\d.]+) s, data .*, step ([\d.]+) s, .* (\d+)%", output)
    whole, start, steps, goodput = map(float, spent.groups())
    assert start + steps <= whole + 0.1
    np.testing.assert_allclose(goodput / 100, steps / whole, atol=0.02 + 0.1 / whole)


# The tests below start real processes and kill them.

LONG = (
    "--steps=400",
    "--log_every=10",
    "--eval_every=200",
    "--checkpoint_every=50",
    "--ema=0.9",
    "--data.mixup=0.2",
    "--model.dropout=0.1",
    "--model.drop_path=0.1",
)


def _start(workdir):
    command = [sys.executable, "-m", "train", "vit_digits", f"--workdir={workdir}", *TINY, *LONG]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _wait_for(workdir, step):
    """Waits until the run has logged `step`."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        entries = read_metrics(workdir / "metrics.jsonl")
        if entries and entries[-1]["step"] >= step:
            return
        time.sleep(0.005)
    raise AssertionError(f"no step {step} in {workdir}")


def _finish(workdir):
    process = _start(workdir)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output.decode()
    return output.decode()


def _everything(workdir):
    """Every array of the last checkpoint, and the metrics."""
    with ocp.StandardCheckpointer() as checkpointer:
        arrays = {
            item: checkpointer.restore(workdir / "checkpoints" / "400" / item)
            for item in ("variables", "training")
        }
    return arrays, (workdir / "metrics.jsonl").read_text()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The arrays and metrics of an uninterrupted run, and the seconds that it takes."""
    workdir, begin = tmp_path_factory.mktemp("runs") / "uninterrupted", time.monotonic()
    _finish(workdir)
    return *_everything(workdir), time.monotonic() - begin


def _assert_same(found, expected):
    assert found[1] == expected[1]
    jax.tree.map(np.testing.assert_array_equal, found[0], expected[0])


def test_sigkill_and_resume_equals_uninterrupted(uninterrupted, tmp_path):
    for step in (60, 230):  # the second kill stops the run that was resumed after the first
        process = _start(tmp_path)
        _wait_for(tmp_path, step)
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL
        process.stdout.close()
    # This checkpoint looks as if the process was killed while it was written.
    half = tmp_path / "checkpoints" / "390.orbax-checkpoint-tmp"
    half.mkdir(exist_ok=True)
    (half / "_CHECKPOINT_METADATA").write_text("{")
    output = _finish(tmp_path)
    assert "resuming" in output
    _assert_same(_everything(tmp_path), uninterrupted)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_sigkill_at_100_random_moments(uninterrupted, tmp_path):
    rng, kills, attempt = np.random.default_rng(0), 0, 0
    while kills < 100:
        workdir, attempt = tmp_path / str(attempt), attempt + 1
        while True:
            begin, process = time.monotonic(), _start(workdir)
            try:
                output, _ = process.communicate(timeout=rng.uniform(0, uninterrupted[2]))
                assert process.returncode == 0, output.decode()
                _assert_same(_everything(workdir), uninterrupted)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
                print(f"kill {kills} after {time.monotonic() - begin:.1f} s")


def test_a_second_signal_ends_a_process_at_once(tmp_path):
    process = _start(tmp_path)
    _wait_for(tmp_path, 10)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    process.stdout.close()
    assert process.returncode in (-signal.SIGINT, 130)


def test_sigterm_saves_exits_0_and_resumes(uninterrupted, tmp_path):
    process = _start(tmp_path)
    _wait_for(tmp_path, 70)
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "SIGTERM: saved" in output.decode()
    step = int(output.decode().split("after step ")[-1].split(";")[0])
    assert (tmp_path / "checkpoints" / str(step)).is_dir()
    assert f"after step {step}\n" in _finish(tmp_path)
    _assert_same(_everything(tmp_path), uninterrupted)
