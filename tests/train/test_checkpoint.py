import copy
import re
import shutil

import jax
import numpy as np
import pytest
from etils import epath
from rich.console import Console

import eval.classification
import zoo
import zoo.__main__
from tests.train.conftest import TINY
from train.__main__ import main
from train.checkpoint import Checkpointer
from train.config import override
from train.loop import _Run, train
from train.recipes import RECIPES
from zoo.types import InputError
from zoo.weights.checksums import MANIFEST, DamagedError, check_arrays, check_files
from zoo.weights.run import choose_step

STEPS = ("--steps=20", "--log_every=10", "--eval_every=20", "--checkpoint_every=10", "--ema=0.9")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run, and the contents of its checkpoints at the steps 10 and 20."""
    workdir, states, save = tmp_path_factory.mktemp("finished") / "run", {}, _Run.save

    def remember(self, step, score):
        states[step] = jax.device_get((self.state, self.metrics))
        save(self, step, score)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Run, "save", remember)
        config = override(RECIPES["vit_digits"](), [*TINY, *STEPS])
        train(config, workdir, Console(quiet=True))
    return workdir, states


@pytest.fixture
def saved(finished, tmp_path):
    """A copy of `finished` in the folder in which the fixture `run` trains."""
    workdir, states = finished
    shutil.copytree(workdir, tmp_path / "run")
    return tmp_path / "run", copy.deepcopy(states)


def restore(workdir, like):
    """The contents of the latest checkpoint, restored on one device, and the warnings."""
    warnings = []
    checkpoints = Checkpointer(epath.Path(workdir / "checkpoints"), 2, warnings.append)
    try:
        return checkpoints.restore_latest(*jax.device_put(like)), warnings
    finally:
        checkpoints.close()


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def check_flips(saved, tmp_path, count):
    """Flips `count` times one random bit, and counts how often this is found."""
    workdir, states = saved
    newest = workdir / "checkpoints" / "20"
    files = sorted(path.relative_to(workdir) for path in newest.rglob("*") if path.is_file())
    files = [path for path in files if (workdir / path).stat().st_size]
    rng, found = np.random.default_rng(0), 0
    for i in range(count):
        damaged = tmp_path / f"copy{i}"
        shutil.copytree(workdir / "checkpoints", damaged / "checkpoints")
        path = damaged / files[rng.integers(len(files))]
        data = bytearray(path.read_bytes())
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        (state, metrics, position, step), warnings = restore(damaged, states[20])
        assert_same((state, metrics), states[step])
        assert position == {"batch": step}
        assert bool(warnings) == (step == 10), path
        found += step == 10
        shutil.rmtree(damaged)
    return found


def test_flipped_bytes_are_found_and_the_checkpoint_before_is_taken(saved, tmp_path):
    assert check_flips(saved, tmp_path, 20) >= 15  # other bytes are never read, such as times


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_thousand_flipped_bytes_are_found(saved, tmp_path):
    assert check_flips(saved, tmp_path, 1_000) >= 800


def test_the_warning_names_the_damaged_array_and_training_goes_on(saved, run):
    workdir, _ = saved
    before = (workdir / "metrics.jsonl").read_text()
    for file in (workdir / "checkpoints" / "20" / "training" / "d").iterdir():
        file.write_bytes(file.read_bytes()[:-9])
    _, result, output = run(*STEPS)
    assert re.search(r"warning: .*/20: training/\S+, .* is damaged; moved to .*/damaged/20", output)
    assert "after step 10" in output
    assert result.step == 20
    assert (workdir / "damaged" / "20").is_dir()
    assert (workdir / "metrics.jsonl").read_text() == before


def test_a_run_without_any_whole_checkpoint_begins_anew_only_when_told_to(saved, run):
    workdir, _ = saved
    for step in (10, 20):
        (workdir / "checkpoints" / str(step) / MANIFEST).write_text("nothing")
    before = (workdir / "metrics.jsonl").read_text()
    for _ in range(2):
        with pytest.raises(InputError) as error:
            run(*STEPS)
        message = f"no whole checkpoint is left: {workdir}/damaged has the damaged ones (10, 20);"
        assert message in str(error.value)
        assert str(error.value).endswith(f"to begin anew, remove {workdir}/damaged")
    assert (workdir / "metrics.jsonl").read_text() == before
    shutil.rmtree(workdir / "damaged")
    assert run(*STEPS)[1].step == 20


def test_zoo_load_names_what_is_damaged(saved):
    workdir, _ = saved
    (data,) = (workdir / "checkpoints" / "20" / "variables" / "d").iterdir()
    data.write_bytes(data.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"20: variables/params/\S+, .* is damaged"):
        zoo.load(workdir)
    scores = workdir / "checkpoints" / "20" / "metrics" / "metrics"
    scores.write_text(scores.read_text().replace("0", "1"))
    with pytest.raises(InputError, match="metrics/metrics is damaged"):
        zoo.load(workdir)


def test_an_array_that_was_read_wrongly_is_named(saved):
    workdir, states = saved
    step = epath.Path(workdir / "checkpoints" / "20")
    tree = states[20][0].ema
    check_files(step)
    check_arrays(step, "variables", tree)
    kernel = tree["params"]["head"]["kernel"].copy()
    kernel[3, 4] += 1e-6
    tree["params"]["head"]["kernel"] = kernel
    with pytest.raises(DamagedError, match=r"20: variables/params/head/kernel is damaged"):
        check_arrays(step, "variables", tree)


def test_a_checkpoint_of_before_there_were_checksums_is_taken(saved):
    workdir, states = saved
    (workdir / "checkpoints" / "20" / MANIFEST).unlink()
    (state, *_, step), warnings = restore(workdir, states[20])
    assert (step, warnings) == (20, [])
    assert_same(state, states[20][0])


def test_a_folder_that_was_copied_in_part_is_no_checkpoint(saved, run, capsys):
    workdir, _ = saved
    (workdir / "checkpoints" / "30" / "variables").mkdir(parents=True)
    unfinished = workdir / "checkpoints" / "20.orbax-checkpoint-tmp"
    shutil.copytree(workdir / "checkpoints" / "20", unfinished)
    zoo.load(workdir)
    assert choose_step(workdir, "last") == 20
    for path in (workdir / "checkpoints" / "30", unfinished):
        with pytest.raises(InputError, match=f"{path}: not a complete checkpoint"):
            zoo.load(path)
        assert zoo.__main__.main(["inspect", str(path)]) == 2
    assert eval.classification.main([f"--workdir={workdir}", "--checkpoint=30"]) == 2
    assert "has no checkpoint '30'; there are best, last, [10, 20]" in capsys.readouterr().err
    _, result, output = run(*STEPS)
    assert result.step == 20
    assert re.search(r"warning: \S+/30 is incomplete; moved to .*going on from step 20", output)


def test_a_run_without_a_complete_checkpoint_is_none(saved, capsys):
    workdir, _ = saved
    for step in (10, 20):
        shutil.rmtree(workdir / "checkpoints" / str(step))
    (workdir / "checkpoints" / "10.orbax-checkpoint-tmp").mkdir()
    with pytest.raises(InputError, match="no complete checkpoint"):
        zoo.load(workdir)
    assert zoo.__main__.main(["inspect", str(workdir)]) == 2
    assert eval.classification.main([f"--workdir={workdir}"]) == 2
    arguments = ("vit_digits", *TINY, *STEPS, f"--init={workdir}")
    assert main([*arguments, f"--workdir={workdir.parent / 'new'}"]) == 2
    errors = capsys.readouterr().err
    assert errors.count("no complete checkpoint") == errors.count("\n") == 3
