"""Image classification: top-1, top-5, precision, recall and F1 of each class.

python -m eval.classification --workdir=DIR [--checkpoint=best|last|STEP] [--json=FILE]

Evaluates a checkpoint of a run and draws the confusion matrix, and for a model with attention what
the class of a few images was read from.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from rich.console import Console
from rich.table import Table

from eval.arguments import add_run_arguments
from eval.pictures import draw_attention_maps, draw_confusion_matrix
from eval.runs import Put, open_run
from zoo.data import (
    ClassificationData,
    Dataset,
    eval_batches,
    normalize,
    open_classification,
    prefetch,
)
from zoo.data.devices import fetch_rows, gather, this_process
from zoo.losses.classification import LOSSES
from zoo.predict import predict_classes
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class ClassificationResult:
    """Labels and predictions, from which every figure follows whatever their order and batches.

    Attributes:
        labels: Right classes, int [n].
        predictions: Likeliest classes, likeliest first, int [n j] with j at most 5.
        num_classes: Classes that there are.
        losses: Loss of each example, float [n].
    """

    labels: np.ndarray
    predictions: np.ndarray
    losses: np.ndarray
    num_classes: int

    @staticmethod
    def merge(results: Sequence["ClassificationResult"]) -> "ClassificationResult":
        """The result over all the examples of several."""
        return ClassificationResult(
            *(
                np.concatenate([getattr(result, name) for result in results])
                for name in ("labels", "predictions", "losses")
            ),
            num_classes=results[0].num_classes,
        )

    def figures(self) -> dict[str, float]:
        """top1 and top5 in 0..1, and loss: the mean of the losses."""
        hits = self.predictions == self.labels[:, None]
        return {
            "top1": float(hits[:, 0].mean()),
            "top5": float(hits.any(axis=1).mean()),
            "loss": math.fsum(self.losses) / len(self.losses),  # exact, so in any order
        }

    def confusion(self) -> np.ndarray:
        """How often a class (row) was taken for another (column), int [k k]."""
        pairs = self.labels.astype(np.int64) * self.num_classes + self.predictions[:, 0]
        counts = np.bincount(pairs, minlength=self.num_classes**2)
        return counts.reshape(self.num_classes, self.num_classes)

    def per_class(self) -> dict[str, np.ndarray]:
        """precision, recall and f1 in 0..1, float [k], 0 where undefined; support, int [k]."""
        k = self.num_classes
        predicted = self.predictions[:, 0]
        support = np.bincount(self.labels, minlength=k)
        claimed = np.bincount(predicted, minlength=k)
        right = np.bincount(self.labels[self.labels == predicted], minlength=k)
        return {
            "precision": right / np.maximum(claimed, 1),
            "recall": right / np.maximum(support, 1),
            "f1": 2 * right / np.maximum(claimed + support, 1),
            "support": support,
        }


def predictor(
    model: nn.Module, data: ClassificationData, loss_name: str
) -> Callable[[Mapping[str, Any], dict[str, Any]], dict[str, jax.Array]]:
    """A jitted function of variables and a batch: top-5 classes and losses of its examples."""

    @jax.jit
    def predict(variables: Mapping[str, Any], batch: dict[str, Any]) -> dict[str, jax.Array]:
        logits = model.apply(variables, normalize(batch["image"], data.mean, data.std))
        logits = jnp.asarray(logits, jnp.float32)
        targets = jax.nn.one_hot(batch["label"], logits.shape[-1])
        losses = LOSSES[loss_name](logits, targets)
        return {"classes": predict_classes(logits).classes, "losses": losses}

    return predict


def evaluator(
    model: nn.Module,
    data: ClassificationData,
    examples: Dataset,
    batch_size: int,
    put: Put,
    loss_name: str = "softmax",
) -> Callable[[Mapping[str, Any]], ClassificationResult]:
    """A function of the variables that evaluates them on every example; compiles once.

    Args:
        model: Gives logits.
        data: Says how images are normalised.
        examples: What to evaluate on.
        batch_size: Examples at a time; no figure depends on it.
        put: Moves a batch to the devices.
        loss_name: One of `zoo.losses.classification.LOSSES`.

    Raises:
        InputError: While evaluating, if no image can be read.
    """
    predict = predictor(model, data, loss_name)

    def evaluate(variables: Mapping[str, Any]) -> ClassificationResult:
        results = []
        shares = eval_batches(examples, batch_size, **this_process())
        batches = prefetch(shares, lambda host: (host, put(host)))
        with closing(batches):
            for host, batch in batches:
                found = fetch_rows(predict(variables, batch))
                valid = host["valid"]
                results.append(
                    ClassificationResult(
                        host["label"][valid],
                        found["classes"][valid],
                        found["losses"][valid],
                        examples.num_classes,
                    )
                )
        result = ClassificationResult.merge(gather(ClassificationResult.merge(results)))
        if not len(result.labels):
            raise InputError(f"none of the {len(examples)} images can be read")
        return result

    return evaluate


def report(result: ClassificationResult, class_names: Sequence[str]) -> dict[str, Any]:
    """Every figure, as JSON values; ``confusions`` lists [true, predicted, count]."""
    per_class = result.per_class()
    confusion = result.confusion()
    return {
        **result.figures(),
        "examples": len(result.labels),
        "per_class": {
            name: {figure: values[i].item() for figure, values in per_class.items()}
            for i, name in enumerate(class_names)
        },
        "confusions": [
            [class_names[row], class_names[column], confusion[row, column].item()]
            for row, column in zip(*np.nonzero(confusion), strict=True)
        ],
    }


def print_table(figures: Mapping[str, Any], console: Console, most: int = 20) -> None:
    """A table of the `most` classes with the lowest F1, and the figures over all of them."""
    per_class = sorted(figures["per_class"].items(), key=lambda item: item[1]["f1"])
    title = None if len(per_class) <= most else f"{most} classes of the lowest F1"
    table = Table(title=title)
    table.add_column("class")
    for name in ("precision", "recall", "f1", "support"):
        table.add_column(name, justify="right")
    shown = sorted(per_class[:most]) if len(per_class) <= most else per_class[:most]
    for name, row in shown:
        table.add_row(
            name, *(f"{row[k]:.4f}" for k in ("precision", "recall", "f1")), str(row["support"])
        )
    console.print(table)
    summary = "  ".join(f"{name} {figures[name]:.4f}" for name in ("top1", "top5", "loss"))
    skipped = f", {figures['skipped']} left out" if figures["skipped"] else ""
    console.print(f"{figures['examples']} examples{skipped}, step {figures['step']}: {summary}")


def draw_attention(
    model: nn.Module,
    variables: Mapping[str, Any],
    data: ClassificationData,
    examples: Dataset,
    path: Path,
) -> bool:
    """Draws what the class of a few images was read from; False for a model without attention."""
    spread = np.linspace(0, len(examples) - 1, min(8, len(examples))).astype(int)
    shown = [examples.example(int(i), np.random.default_rng(0)) for i in spread]
    shown = [example for example in shown if example["valid"]]
    pictures = np.stack([example["image"] for example in shown])
    images = normalize(jnp.asarray(pictures), data.mean, data.std)
    outputs: Any = model.apply(variables, images, mutable=["intermediates"])
    logits, sown = outputs
    sown = sown.get("intermediates", {})
    blocks = [sown.get(f"blocks_{i}", {}) for i in range(model.num_layers)]
    attention = [np.asarray(block["attn"]["attention"][0]) for block in blocks if "attn" in block]
    if "blocks" in sown:  # scanned
        attention = [*np.asarray(sown["blocks"]["attn"]["attention"][0])]
    if not attention:
        return False
    names = examples.class_names
    titles = [
        f"{names[int(example['label'])]}, seen as {names[found]}"
        for example, found in zip(shown, logits.argmax(axis=-1).tolist(), strict=True)
    ]
    (stride,) = model.feature_strides
    grid = (images.shape[1] // stride, images.shape[2] // stride)
    draw_attention_maps(pictures, attention, grid, titles, path)
    return True


def evaluate_run(arguments: argparse.Namespace, console: Console) -> None:
    """Evaluates a checkpoint of a run, and writes what was asked for."""
    workdir = arguments.workdir
    run = open_run(arguments, ClassificationData)
    model, data = run.model, run.data
    examples = open_classification(data, "eval", class_names=run.class_names)
    if (loss_name := run.task.get("loss_name")) not in LOSSES:
        raise InputError(f"{workdir}/config.json: not of a classification run")
    evaluate = evaluator(model, data, examples, run.batch_size, run.put, loss_name)
    result = evaluate(run.variables)

    figures = {**report(result, examples.class_names), "step": run.step}
    figures |= {"skipped": examples.skipped}
    print_table(figures, console)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
        console.print(f"figures: {arguments.json}", soft_wrap=True)
    path = workdir / "confusion_matrix.png"
    draw_confusion_matrix(result.confusion(), examples.class_names, path)
    console.print(f"confusion matrix: {path}", soft_wrap=True)
    path = workdir / "attention_maps.png"
    if draw_attention(model, run.variables, data, examples, path):
        console.print(f"attention maps: {path}", soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.classification", description=(__doc__ or "").splitlines()[0]
    )
    add_run_arguments(parser, batch_size=256)
    try:
        evaluate_run(parser.parse_args(arguments), Console(markup=False, highlight=False))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
