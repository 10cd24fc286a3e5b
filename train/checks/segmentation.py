"""Checks of segmentation data."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from eval.confusion import ConfusionMatrix, ignored_mistake
from eval.pictures import draw_images
from train.checks.files import readable
from train.checks.findings import Findings, class_table
from train.tasks import Batch, Put
from zoo.data import Dataset, SegmentationData, eval_batches
from zoo.data.label_map_sources import SegmentationSource
from zoo.data.segmentation import read_picture
from zoo.ops.palette import overlay
from zoo.ops.tiles import Tiling
from zoo.outputs import Segments
from zoo.predict import predict_tiled
from zoo.types import IGNORE_LABEL

_SAMPLE = 500  # images whose pixels are counted


def inspect(data: SegmentationData, train: Dataset, held_out: Dataset) -> Findings:
    """Counts the pixels of each class in both splits, in percent."""
    counts = {"train": _count(train), "eval": _count(held_out)}
    shares: dict[str, Any] = {
        f"{split} %": [f"{100 * n / max(pixels.sum(), 1):.2f}" for n in pixels[:-1]]
        for split, pixels in counts.items()
    }
    notes = [f"train: {len(train)} images, eval: {len(held_out)} images"]
    if max(len(train), len(held_out)) > _SAMPLE:
        notes.append(f"counts are of {_SAMPLE} evenly spaced images of each split")
    notes += [
        f"{split}: {share:.1%} of the pixels have the label to be ignored"
        for split, share in ((s, n[-1] / max(n.sum(), 1)) for s, n in counts.items())
    ]
    problems = [
        f"class {name!r} (label {label}) has no pixel in {split}"
        for split, dataset in (("train", train), ("eval", held_out))
        if len(dataset) <= _SAMPLE
        for label, name in enumerate(train.class_names)
        if not counts[split][label]
    ]
    for split, pixels in counts.items():
        ignored = int(pixels[-1])
        if why := ignored_mistake(train.class_names, pixels[:-1], ignored, data.ignore_label):
            problems.append(f"{split}: {why}")
    return Findings(class_table(train.class_names, shares), notes, problems)


def _count(dataset: Dataset) -> np.ndarray:
    """The number of pixels of each class and, last, of ignored pixels, at the original size."""
    counts, source = np.zeros(IGNORE_LABEL + 1, np.int64), cast(SegmentationSource, dataset.source)
    spread = np.unique(np.linspace(0, len(dataset) - 1, _SAMPLE).astype(int)).tolist()
    for picture in readable(dataset, spread, lambda raw: read_picture(raw, source.labels)):
        labels = np.asarray(picture.label_map)
        counts += np.bincount(labels.reshape(-1), minlength=len(counts))
    return np.append(counts[: dataset.num_classes], counts[IGNORE_LABEL])


def draw(data: SegmentationData, train: Dataset, batch: Batch, path: Path) -> None:
    """Draws the images of a batch, with their labels as transparent colours on top."""
    pictures, titles = [], []
    for image, labels in zip(batch["image"], batch["label_map"], strict=True):
        there = np.unique(labels[labels != IGNORE_LABEL])
        pictures.append(overlay(image, labels, opacity=0.5))
        titles.append(", ".join(train.class_names[label] for label in there[:4]))
    draw_images(np.stack(pictures), titles, path)


def score_truth(
    data: SegmentationData, dataset: Dataset, batch_size: int, put: Put
) -> dict[str, float]:
    """The figures of the true labels, cut into windows and joined again like predictions."""
    matrix = ConfusionMatrix(dataset.class_names, IGNORE_LABEL)
    truths: deque[np.ndarray] = deque()

    def label_maps() -> Iterator[np.ndarray]:
        for batch in eval_batches(dataset, 1):
            if batch["valid"][0]:
                truths.append(batch["label_map"][0])
                yield np.repeat(batch["label_map"][0][..., None], 3, axis=-1)

    def predict(windows: np.ndarray) -> Segments:
        return Segments(windows[..., 0], np.ones(windows.shape[:3], np.float32))

    overlap = int(data.overlap * min(data.image_size))
    for found in predict_tiled(
        predict, label_maps(), Tiling(data.image_size, 0, overlap), batch_size
    ):
        matrix.update(truths.popleft(), np.asarray(found.labels))
    return {name: value for name, value in matrix.compute().items() if isinstance(value, float)}
