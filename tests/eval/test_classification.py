import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

import eval.classification
from eval.classification import ClassificationResult, report
from eval.pictures import attention_rollout
from tests.train.conftest import TINY
from train.__main__ import main as train_main
from zoo.data import ClassificationData, open_classification


def _random_result(n=400, k=7, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k - 1, n)  # the last class never occurs
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
    # scikit-learn takes scores: five for the first, four for the second, ...
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
    # The loss differs in the last digit: XLA adds up a batch of another size in another order.
    assert figures.pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-5)
    assert figures == expected


def test_another_split(workdir):
    file = workdir / "train.json"
    arguments = [f"--workdir={workdir}", f"--json={file}", "--split=train"]
    assert eval.classification.main(arguments) == 0
    assert json.loads(file.read_text())["examples"] == 1257
    assert len(open_classification(ClassificationData(), "train")) == 1257


def _command(*arguments):
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=root, capture_output=True, text=True, timeout=300
    )


def test_a_folder_without_a_run_is_one_line_and_exit_code_2(tmp_path):
    done = _command("eval.classification", f"--workdir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path}: not a run: it needs config.json and checkpoints/\n"
