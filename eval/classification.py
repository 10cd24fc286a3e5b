"""Image classification: top-1, top-5, precision, recall and F1 of each class.

python -m eval.classification --workdir=DIR [--checkpoint=best|last|STEP] [--json=FILE]

Evaluates a checkpoint of a run and draws the confusion matrix; for a model with attention, it also
draws which parts of a few images the model attended to.
"""

import argparse
import dataclasses
import itertools
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
from jaxtyping import Float, Int, Shaped
from rich.console import Console
from rich.table import Table

from eval.command import add_run_arguments, figure, make_parser, run_command
from eval.compiling import announced
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
    """Labels, predictions and losses of all examples.

    The figures are computed from these, so they depend neither on order nor on batches.

    Attributes:
        labels: True classes.
        predictions: The j most likely classes, best first; j is at most 5.
        losses: Loss of each example.
        num_classes: Number of classes.
    """

    labels: Int[np.ndarray, " n"]
    predictions: Int[np.ndarray, "n j"]
    losses: Float[np.ndarray, " n"]
    num_classes: int

    @staticmethod
    def merge(results: Sequence["ClassificationResult"]) -> "ClassificationResult":
        """The result over the examples of several results."""
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
            "loss": math.fsum(self.losses) / len(self.losses),  # exact in any order
        }

    def confusion(self) -> Int[np.ndarray, "k k"]:
        """Counts of examples by true class (row) and predicted class (column)."""
        pairs = self.labels.astype(np.int64) * self.num_classes + self.predictions[:, 0]
        counts = np.bincount(pairs, minlength=self.num_classes**2)
        return counts.reshape(self.num_classes, self.num_classes)

    def per_class(self) -> dict[str, Shaped[np.ndarray, " k"]]:
        """precision, recall and f1 in 0..1, 0 where undefined; support and predicted, in examples.

        A class has no precision if it is never predicted, and no recall if it has no example.
        """
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
            "predicted": claimed,
        }


def predictor(
    model: nn.Module, data: ClassificationData, loss_name: str
) -> Callable[[Mapping[str, Any], dict[str, Any]], dict[str, Shaped[jax.Array, "b ..."]]]:
    """A jitted function of variables and a batch: top-5 classes and the loss of each example."""

    @announced
    @jax.jit
    def predict(
        variables: Mapping[str, Any], batch: dict[str, Any]
    ) -> dict[str, Shaped[jax.Array, "b ..."]]:
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
        model: A classifier.
        data: Says how images are normalised.
        examples: What to evaluate on.
        batch_size: Number of examples at a time; the figures do not depend on it.
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
    """Prints a table of the `most` classes with the lowest F1, and the figures over all classes."""
    per_class = sorted(figures["per_class"].items(), key=lambda item: item[1]["f1"])
    title = None if len(per_class) <= most else f"{most} classes of the lowest F1"
    table = Table(title=title)
    table.add_column("class")
    for name in ("precision", "recall", "f1", "support"):
        table.add_column(name, justify="right")
    shown = sorted(per_class[:most]) if len(per_class) <= most else per_class[:most]
    for name, row in shown:
        precision = figure(row["precision"] if row["predicted"] else -1, 4)
        recall = figure(row["recall"] if row["support"] else -1, 4)
        table.add_row(name, precision, recall, f"{row['f1']:.4f}", str(row["support"]))
    console.print(table)
    summary = "  ".join(f"{name} {figures[name]:.4f}" for name in ("top1", "top5", "loss"))
    skipped = f", {figures['skipped']} left out" if figures["skipped"] else ""
    console.print(f"{figures['examples']} examples{skipped}, step {figures['step']}: {summary}")


def attention_maps(sown: Mapping[str, Any]) -> list[Float[np.ndarray, "b heads n n"]]:
    """The attention maps of each block, in order; none of a model without attention.

    Args:
        sown: The collection ``intermediates`` after a call of the model.
    """
    if "attn" in (scanned := sown.get("blocks", {})):
        return [*np.asarray(scanned["attn"]["attention"][0])]
    numbers = itertools.takewhile(lambda i: f"blocks_{i}" in sown, itertools.count())
    blocks = [sown[f"blocks_{i}"] for i in numbers]
    return [np.asarray(block["attn"]["attention"][0]) for block in blocks if "attn" in block]


def draw_attention(
    model: nn.Module,
    variables: Mapping[str, Any],
    data: ClassificationData,
    examples: Dataset,
    path: Path,
) -> bool:
    """Draws where the model attended in a few images; False if the model has no attention."""
    spread = np.linspace(0, len(examples) - 1, min(8, len(examples))).astype(int)
    shown = [examples.example(int(i), np.random.default_rng(0)) for i in spread]
    shown = [example for example in shown if example["valid"]]
    pictures = np.stack([example["image"] for example in shown])
    images = normalize(jnp.asarray(pictures), data.mean, data.std)
    outputs: Any = model.apply(variables, images, mutable=["intermediates"])
    logits, sown = outputs
    sown = sown.get("intermediates", {})
    attention = attention_maps(sown)
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


def evaluate_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluates a checkpoint of a run, and draws; returns its figures."""
    console = Console(markup=False, highlight=False)
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
    path = workdir / "confusion_matrix.png"
    draw_confusion_matrix(result.confusion(), examples.class_names, path)
    console.print(f"confusion matrix: {path}", soft_wrap=True)
    path = workdir / "attention_maps.png"
    if draw_attention(model, run.variables, data, examples, path):
        console.print(f"attention maps: {path}", soft_wrap=True)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code, 2 for bad input."""
    parser = make_parser("classification", (__doc__ or "").splitlines()[0])
    add_run_arguments(parser, batch_size=256)
    return run_command(parser, evaluate_run, argv)


if __name__ == "__main__":
    sys.exit(main())
