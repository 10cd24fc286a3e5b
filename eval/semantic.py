"""Semantic segmentation of whole images at their own resolution, with sliding windows."""

import argparse
import dataclasses
import itertools
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Integer, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from eval.boundary import BoundaryF1
from eval.compiling import announced
from eval.confusion import ConfusionMatrix
from eval.pictures import save_figure
from eval.runs import Put, open_run
from zoo.data import (
    Dataset,
    SegmentationData,
    eval_batches,
    normalize,
    open_segmentation,
    prefetch,
)
from zoo.data.devices import fetch_rows
from zoo.ops.palette import overlay, palette
from zoo.outputs import Segments
from zoo.predict import make_tiling, predict_pixels, predict_tiled
from zoo.types import IGNORE_LABEL, InputError

# An image, its true label map, and its predicted label map.
Example = tuple[UInt8[np.ndarray, "h w 3"], Integer[np.ndarray, "h w"], Integer[np.ndarray, "h w"]]
Segmenter = Callable[[Mapping[str, Any], Dataset], Generator[Example, None, None]]


def segmenter(model: nn.Module, data: SegmentationData, batch_size: int, put: Put) -> Segmenter:
    """A function of the variables and examples that segments the examples; compiles once.

    It yields the image, the true and the predicted label map of every example that can be read, in
    order.

    Args:
        model: A model that gives logits for each pixel.
        data: Says how large windows are, and how images are normalised.
        batch_size: Number of windows at a time; the figures do not depend on it.
        put: Moves a batch to the devices.
    """
    tiling = make_tiling(model, data.image_size, data.overlap)

    @announced
    @jax.jit
    def predict(variables: Mapping[str, Any], batch: dict[str, Any]) -> Segments:
        logits = model.apply(variables, normalize(batch["image"], data.mean, data.std))
        return predict_pixels(jax.numpy.asarray(logits))

    def segment(variables: Mapping[str, Any], examples: Dataset) -> Generator[Example, None, None]:
        waiting: deque[tuple[Any, Any]] = deque()  # image and true label map

        def images() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
            with closing(prefetch(eval_batches(examples, 1), lambda batch: batch)) as batches:
                for batch in batches:
                    if batch["valid"][0]:
                        waiting.append((batch["image"][0], batch["label_map"][0]))
                        yield batch["image"][0]

        def of_windows(windows: UInt8[np.ndarray, "n th tw 3"]) -> Segments:
            return fetch_rows(predict(variables, put({"image": windows})))

        # Images have different numbers of windows, so every host segments all images.
        windows = batch_size // jax.process_count()
        for found in predict_tiled(of_windows, images(), tiling, windows):
            yield *waiting.popleft(), np.asarray(found.labels)

    return segment


def evaluator(
    model: nn.Module, data: SegmentationData, examples: Dataset, batch_size: int, put: Put
) -> Callable[[Mapping[str, Any]], ConfusionMatrix]:
    """A function of the variables that evaluates them on all examples; arguments as in `segmenter`.

    Raises:
        InputError: While evaluating, if no image can be read.
    """
    segment = segmenter(model, data, batch_size, put)

    def evaluate(variables: Mapping[str, Any]) -> ConfusionMatrix:
        matrix = ConfusionMatrix(examples.class_names, IGNORE_LABEL)
        for _, truth, found in segment(variables, examples):
            matrix.update(truth, found)
        if not matrix.counts.any():
            raise InputError(f"none of the {len(examples)} images can be read, or has a label")
        if mistake := matrix.mistake():
            logging.getLogger(__name__).warning("evaluation: %s", mistake)
        return matrix

    return evaluate


def draw_examples(
    segment: Segmenter, variables: Mapping[str, Any], examples: Dataset, path: Path, count: int = 6
) -> None:
    """Draws the first images with their true and their predicted labels."""
    with closing(segment(variables, examples)) as segmented:
        shown = list(itertools.islice(segmented, count))
    draw_label_maps(shown, examples.class_names, path)


def draw_label_maps(
    examples: Sequence[Example],
    class_names: Sequence[str],
    path: Path,
) -> None:
    """Draws images, and under each the same with its true and with its predicted labels.

    Args:
        examples: Images, and their true and predicted label maps.
        class_names: Names of the labels; the legend shows them if there are at most 30.
        path: File to write, ``.png``.
    """
    figure = Figure(figsize=(2.2 * len(examples) + 2, 6.6), layout="constrained")
    panels = figure.subplots(3, len(examples), squeeze=False)
    for column, (image, truth, found) in enumerate(examples):
        counted = np.where(truth == IGNORE_LABEL, 0, truth)
        rows = (image, overlay(image, counted), overlay(image, found))
        for panel, picture in zip(panels[:, column], rows, strict=True):
            panel.imshow(picture)
            panel.set(xticks=[], yticks=[])
    for panel, name in zip(panels[:, 0], ("image", "true", "predicted"), strict=True):
        panel.set_ylabel(name)
    if len(class_names) <= 30:
        colours = palette(len(class_names)) / 255
        handles = [Patch(color=c, label=n) for c, n in zip(colours, class_names, strict=True)]
        figure.legend(handles=handles, loc="outside right center", fontsize=8)
    save_figure(figure, path)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation.

    Attributes:
        matrix: The confusion matrix of all pixels that count.
        boundary: The boundary F1, if asked for.
        examples: Number of images that were segmented.
        skipped: Number of images that could not be read.
        step: Step of the checkpoint.
        draw: Draws the first examples into a ``.png`` file.
    """

    matrix: ConfusionMatrix
    boundary: BoundaryF1 | None
    examples: int
    skipped: int
    step: int
    draw: Callable[[Path], None]


def evaluate_run(arguments: argparse.Namespace) -> Evaluation:
    """Evaluates a run on whole images; for the arguments see `eval.segmentation`.

    Raises:
        InputError: If the run, its data or the arguments are unusable.
    """
    run = open_run(arguments, SegmentationData)
    examples = open_segmentation(run.data, "eval", class_names=run.class_names)
    segment = segmenter(run.model, run.data, run.batch_size, run.put)
    matrix = ConfusionMatrix(examples.class_names, IGNORE_LABEL)
    boundary = BoundaryF1(examples.class_names, IGNORE_LABEL) if arguments.boundary else None
    count = 0
    for _, truth, found in segment(run.variables, examples):
        for metric in (matrix, boundary):
            if metric:
                metric.update(truth, found)
        count += 1
    if not count:
        raise InputError(f"none of the {len(examples)} images can be read")
    draw = partial(draw_examples, segment, run.variables, examples)
    return Evaluation(matrix, boundary, count, examples.skipped, run.step, draw)
