"""Checks of classification data."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from eval.classification import ClassificationResult
from eval.pictures import draw_images
from train.checks.files import readable
from train.checks.findings import Findings, class_table
from train.tasks import Batch, Put
from zoo.data import ClassificationData, Dataset, eval_batches
from zoo.predict import predict_classes

_SAMPLE = 2_000  # examples whose labels are counted


def inspect(data: ClassificationData, train: Dataset, held_out: Dataset) -> Findings:
    """Counts the images of each class in both splits."""
    counts: dict[str, Any] = {"train": _count(train), "eval": _count(held_out)}
    notes = [f"train: {len(train)} images, eval: {len(held_out)} images"]
    if max(len(train), len(held_out)) > _SAMPLE:
        notes.append(f"counts are of {_SAMPLE} evenly spaced images of each split")
    problems = [
        f"class {name!r} (label {label}) has no image in {split}"
        for split, dataset in (("train", train), ("eval", held_out))
        if len(dataset) <= _SAMPLE
        for label, name in enumerate(train.class_names)
        if not counts[split][label]
    ]
    return Findings(class_table(train.class_names, counts), notes, problems)


def _count(dataset: Dataset) -> list[int]:
    spread = np.unique(np.linspace(0, len(dataset) - 1, _SAMPLE).astype(int)).tolist()
    labels = [int(example["label"]) for example in readable(dataset, spread)]
    return np.bincount(labels, minlength=dataset.num_classes).tolist()


def draw(data: ClassificationData, train: Dataset, batch: Batch, path: Path) -> None:
    """Draws the augmented images of a batch, before they are mixed, with their classes."""
    names = [train.class_names[label] for label in np.asarray(batch["label"]).tolist()]
    draw_images(np.asarray(batch["image"]), names, path)


def score_truth(
    data: ClassificationData, dataset: Dataset, batch_size: int, put: Put
) -> dict[str, float]:
    """The figures of predictions that give the true class a high score."""
    results = []
    for host in eval_batches(dataset, batch_size):
        batch: dict[str, Any] = put(host)
        logits = 10 * jax.nn.one_hot(batch["label"], dataset.num_classes)
        classes = np.asarray(predict_classes(logits).classes)
        valid = host["valid"]
        labels = host["label"][valid]
        results.append(
            ClassificationResult(labels, classes[valid], np.zeros(len(labels)), dataset.num_classes)
        )
    return ClassificationResult.merge(results).figures()
