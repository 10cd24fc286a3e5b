"""Evaluation of segmentation runs."""

import json

import numpy as np
import pytest

import zoo
from eval import segmentation
from eval.confusion import ConfusionMatrix
from tests.train.test_segmentation import TINY
from train.__main__ import main as train_main
from zoo.data.digit_scenes import draw_scene


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A short run on the scenes, whose images are larger than its windows."""
    path = tmp_path_factory.mktemp("runs") / "scenes"
    assert train_main(["unet_digit_scenes", f"--workdir={path}", *TINY]) == 0
    return path


def evaluate(workdir, *arguments):
    file = workdir / "figures.json"
    assert segmentation.main([f"--workdir={workdir}", f"--json={file}", *arguments]) == 0
    return json.loads(file.read_text())


def test_a_run_is_evaluated_as_it_was_during_training(workdir, capsys):
    figures = evaluate(workdir, "--boundary")
    (logged,) = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for name in ("mIoU", "pixel_accuracy", "mean_accuracy", "dice"):
        assert figures[name] == logged[f"eval/{name}"]
    assert (figures["examples"], figures["skipped"], figures["step"]) == (6, 0, 4)
    assert list(figures["per_class"]) == ["ground", *"0123456789"]
    assert sum(row["pixels"] for row in figures["per_class"].values()) == 6 * 64 * 64
    assert "boundary_F1" in figures
    assert (workdir / "confusion.png").exists() and (workdir / "predictions.png").exists()
    assert "6 images, 0 left out, step 4" in capsys.readouterr().out


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_figures_do_not_depend_on_the_batch_size(workdir, batch_size):
    assert evaluate(workdir, f"--batch_size={batch_size}") == evaluate(workdir)


def test_zoo_predict_equals_the_evaluation_of_a_run(workdir):
    model, variables = zoo.load(workdir)
    matrix = ConfusionMatrix(["ground", *"0123456789"])
    for index in range(6):
        scene = draw_scene("test", index)
        found = zoo.predict(model, variables, scene.image, preprocessing=zoo.preprocessing(workdir))
        matrix.update(scene.semantic, np.asarray(found.labels))
    assert matrix.compute()["mIoU"] == evaluate(workdir)["mIoU"]


def test_another_split(workdir):
    assert evaluate(workdir, "--split=test[:2]")["examples"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split=nonsense"], "nonsense"),
        (["--batch_size=0"], "--batch_size is 0, but must be at least 1"),
        (["--checkpoint=7"], "has no checkpoint '7'; there are best, last, [4]"),
        (["--source=folder:nowhere"], "nowhere"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(workdir, arguments, message, capsys):
    assert segmentation.main([f"--workdir={workdir}", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--annotations=x"], "--workdir and files exclude each other"),
        (["--panoptic"], "a run has its own classes, and no panoptic segmentation"),
    ],
)
def test_options_that_exclude_each_other(workdir, arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        segmentation.main([f"--workdir={workdir}", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
