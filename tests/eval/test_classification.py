import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from PIL import Image
from rich.console import Console

import eval.classification
import zoo
from eval.classification import ClassificationResult, print_table, report
from eval.pictures import attention_rollout
from tests.train.conftest import TINY
from train.__main__ import main as train_main
from zoo.data import ClassificationData, open_classification


def _random_result(n=400, k=7, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k - 1, n)  # no example has the last class
    predictions = np.stack([rng.permutation(k)[:5] for _ in range(n)])
    return ClassificationResult(labels, predictions, rng.exponential(size=n), k)


def test_figures_are_scikit_learns():
    result = _random_result()
    predicted = result.predictions[:, 0]
    classes = np.arange(7)
    expected = sklearn.metrics.precision_recall_fscore_support(
        result.labels, predicted, labels=classes, zero_division=0
    )
    per_class = result.per_class()
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(per_class[name], values, rtol=1e-12)
    confusion = sklearn.metrics.confusion_matrix(result.labels, predicted, labels=classes)
    np.testing.assert_array_equal(result.confusion(), confusion)
    figures = result.figures()
    assert figures["top1"] == sklearn.metrics.accuracy_score(result.labels, predicted)
    # scikit-learn needs scores: 5 for the first prediction, 4 for the second, and so on.
    scores = np.zeros((len(predicted), 7))
    np.put_along_axis(scores, result.predictions, np.arange(5, 0, -1.0), axis=1)
    assert figures["top5"] == pytest.approx(
        sklearn.metrics.top_k_accuracy_score(result.labels, scores, k=5, labels=classes)
    )


def test_figures_do_not_depend_on_order_or_parts():
    result = _random_result()
    order = np.random.default_rng(1).permutation(len(result.labels))
    parts = [
        ClassificationResult(result.labels[i], result.predictions[i], result.losses[i], 7)
        for i in np.array_split(order, [3, 50, 51])
    ]
    assert ClassificationResult.merge(parts).figures() == result.figures()
    names = [f"class {i}" for i in range(7)]
    assert report(ClassificationResult.merge(parts), names) == report(result, names)


def test_no_precision_where_nothing_is_predicted():
    labels, predictions = np.array([0, 0, 1, 1]), np.array([[0], [0], [0], [0]])
    result = ClassificationResult(labels, predictions, np.zeros(4), 3)
    figures = report(result, ["a", "b", "c"]) | {"skipped": 0, "step": 1}
    output = io.StringIO()
    print_table(figures, Console(file=output, width=80))
    rows = [line.strip("│").split("│") for line in output.getvalue().splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["a", "0.5000", "1.0000", "0.6667", "2"],
        ["b", "-", "0.0000", "0.0000", "2"],
        ["c", "-", "-", "0.0000", "0"],
    ]


def test_rollout_of_uniform_attention_is_uniform_where_the_residual_is_not():
    uniform = np.full((1, 2, 4, 4), 0.25)
    np.testing.assert_allclose(
        attention_rollout([uniform]), 0.5 * np.full((1, 4, 4), 0.25) + 0.5 * np.eye(4)
    )
    rows = attention_rollout([np.random.default_rng(0).dirichlet(np.ones(4), (2, 3, 4))] * 3)
    np.testing.assert_allclose(rows.sum(axis=-1), 1)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A short run on the digits."""
    path = tmp_path_factory.mktemp("runs") / "digits"
    arguments = [*TINY, "--steps=60", "--eval_every=30", "--optim.learning_rate=0.01"]
    assert train_main(["vit_digits", f"--workdir={path}", *arguments]) == 0
    return path


def test_a_run_is_evaluated_as_it_was_during_training(workdir, capsys):
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    best = max((e for e in entries if "eval/top1" in e), key=lambda e: (e["eval/top1"], e["step"]))
    file = workdir / "figures.json"
    assert eval.classification.main([f"--workdir={workdir}", f"--json={file}"]) == 0
    figures = json.loads(file.read_text())
    assert figures["top1"] == best["eval/top1"]
    assert figures["top5"] == best["eval/top5"]
    assert figures["loss"] == pytest.approx(best["eval/loss"], rel=1e-5)
    assert figures["examples"] == 540
    assert sum(row["support"] for row in figures["per_class"].values()) == 540
    assert sum(count for *_, count in figures["confusions"]) == 540
    output = capsys.readouterr().out
    for name in ("confusion_matrix.png", "attention_maps.png"):
        assert (workdir / name).stat().st_size > 5_000
        assert name in output.replace("\n", "")


@pytest.mark.parametrize("batch_size", [7, 540, 1000])
def test_figures_do_not_depend_on_the_batch_size(workdir, batch_size):
    file = workdir / f"{batch_size}.json"
    arguments = [f"--workdir={workdir}", f"--json={file}"]
    assert eval.classification.main([*arguments, f"--batch_size={batch_size}"]) == 0
    figures = json.loads(file.read_text())
    assert eval.classification.main(arguments) == 0
    expected = json.loads(file.read_text())
    # The loss differs in the last digit: the order of XLA's sums depends on the batch size.
    assert figures.pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-5)
    assert figures == expected


def test_another_split(workdir):
    file = workdir / "train.json"
    arguments = [f"--workdir={workdir}", f"--json={file}", "--split=train"]
    assert eval.classification.main(arguments) == 0
    assert json.loads(file.read_text())["examples"] == 1257
    assert len(open_classification(ClassificationData(), "train")) == 1257


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split=nonsense"], "nonsense"),
        (["--batch_size=0"], "--batch_size is 0, but must be at least 1"),
        (["--json=nowhere/figures.json"], "--json: nowhere/figures.json: no folder nowhere"),
        (["--checkpoint=7"], "has no checkpoint '7'; there are best, last, [30, 60]"),
        (["--source=folder:nowhere"], "nowhere"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(workdir, arguments, message, capsys):
    assert eval.classification.main([f"--workdir={workdir}", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run["model"]["fields"].update(num_layers=2), "blocks_1"),
        (lambda run: run["model"]["fields"].update(layers=2), "no field 'layers'"),
        (lambda run: run["data"].update(threads="x"), "not of a classification run"),
        (lambda run: run.pop("model"), "no model's name and fields"),
    ],
)
def test_a_run_that_was_tampered_with(workdir, tmp_path, change, message, capsys):
    shutil.copytree(workdir, tmp_path / "run")
    run = json.loads((workdir / "config.json").read_text())
    change(run)
    (tmp_path / "run" / "config.json").write_text(json.dumps(run))
    assert eval.classification.main([f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_last_checkpoint_and_one_by_its_number(workdir):
    file = workdir / "last.json"
    for which, step in (("last", 60), ("30", 30)):
        arguments = [f"--workdir={workdir}", f"--json={file}", f"--checkpoint={which}"]
        assert eval.classification.main(arguments) == 0
        assert json.loads(file.read_text())["step"] == step


def _save_images(folder, classes, count=3):
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory):
    """A run on a folder with classes a, b and c, one of whose images cannot be read."""
    path = tmp_path_factory.mktemp("folder")
    for split in ("train", "val"):
        _save_images(path / "data" / split, "abc")
    (path / "data" / "val" / "b" / "1.png").write_bytes(b"")
    data = [f"--data.source=folder:{path / 'data'}", "--data.eval_split=val"]
    arguments = [*TINY, *data, "--data.on_error=skip", "--steps=4", f"--workdir={path / 'run'}"]
    assert train_main(["vit_digits", *arguments]) == 0
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_model_without_attention_has_no_attention_maps(tmp_path):
    data = ClassificationData()
    examples = open_classification(data, "eval")
    model = zoo.create("resnet_nano", num_classes=10)
    variables = model.init(jax.random.key(0), jnp.zeros((1, *data.image_size, 3)))
    path = tmp_path / "maps.png"
    assert not eval.classification.draw_attention(model, variables, data, examples, path)
    assert not path.exists()


def test_images_left_out_are_counted(folder_run, capsys):
    file = folder_run / "figures.json"
    arguments = [f"--workdir={folder_run / 'run'}", f"--json={file}"]
    assert eval.classification.main(arguments) == 0
    figures = json.loads(file.read_text())
    assert (figures["examples"], figures["skipped"]) == (8, 1)
    assert "8 examples, 1 left out" in capsys.readouterr().out


def test_classes_are_told_apart_by_name(folder_run, tmp_path, capsys):
    file = tmp_path / "figures.json"
    arguments = [f"--workdir={folder_run / 'run'}", f"--json={file}", "--batch_size=2"]
    _save_images(tmp_path / "fewer" / "val", "bc")
    assert eval.classification.main([*arguments, f"--source=folder:{tmp_path / 'fewer'}"]) == 0
    supports = {k: v["support"] for k, v in json.loads(file.read_text())["per_class"].items()}
    assert supports == {"a": 0, "b": 3, "c": 3}
    _save_images(tmp_path / "others" / "val", ["b", "zebra"])
    assert eval.classification.main([*arguments, f"--source=folder:{tmp_path / 'others'}"]) == 2
    assert "zebra" in capsys.readouterr().err


def _command(*arguments):
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=root, capture_output=True, text=True, timeout=300
    )


def test_a_folder_without_a_run_is_one_line_and_exit_code_2(tmp_path):
    done = _command("eval.classification", f"--workdir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path}: not a run: it needs config.json and checkpoints/\n"
