"""Semantic segmentation by a model: whole images, at their own resolution, by sliding windows."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from eval.confusion import ConfusionMatrix
from eval.pictures import draw_label_maps
from eval.runs import Put
from zoo.data import Dataset, SegmentationData, eval_batches, normalize, prefetch
from zoo.predict import PixelPredictions, make_tiling, predict_pixels, predict_tiled
from zoo.types import IGNORE_LABEL, InputError

Example = tuple[np.ndarray, np.ndarray, np.ndarray]
Segmenter = Callable[[Mapping[str, Any], Dataset], Generator[Example, None, None]]


def segmenter(model: nn.Module, data: SegmentationData, batch_size: int, put: Put) -> Segmenter:
    """A function of the variables and examples that segments each; compiles once.

    It gives the image ``[h w 3]``, the true and the predicted label map ``[h w]`` of every example
    that can be read, in order.

    Args:
        model: Gives logits of pixels.
        data: Says how large windows are, and how images are normalised.
        batch_size: Windows at a time; no figure depends on it.
        put: Moves a batch to the devices.
    """
    tiling = make_tiling(model, data.image_size, data.overlap)

    @jax.jit
    def predict(variables: Mapping[str, Any], batch: dict[str, Any]) -> PixelPredictions:
        logits = model.apply(variables, normalize(batch["image"], data.mean, data.std))
        return predict_pixels(jax.numpy.asarray(logits))

    def segment(variables: Mapping[str, Any], examples: Dataset) -> Generator[Example, None, None]:
        waiting: deque[tuple[np.ndarray, np.ndarray]] = deque()

        def images() -> Iterator[np.ndarray]:
            with closing(prefetch(eval_batches(examples, 1), lambda batch: batch)) as batches:
                for batch in batches:
                    if batch["valid"][0]:
                        waiting.append((batch["image"][0], batch["label_map"][0]))
                        yield batch["image"][0]

        def of_windows(windows: np.ndarray) -> PixelPredictions:
            return predict(variables, put({"image": windows}))

        for found in predict_tiled(of_windows, images(), tiling, batch_size):
            yield *waiting.popleft(), np.asarray(found.labels)

    return segment


def evaluator(
    model: nn.Module, data: SegmentationData, examples: Dataset, batch_size: int, put: Put
) -> Callable[[Mapping[str, Any]], ConfusionMatrix]:
    """A function of the variables that evaluates them on every example; for the rest `segmenter`.

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
        return matrix

    return evaluate


def draw_examples(
    segment: Segmenter, variables: Mapping[str, Any], examples: Dataset, path: Path, count: int = 6
) -> None:
    """Draws the first images, what is true of them and what the model says."""
    with closing(segment(variables, examples)) as segmented:
        shown = list(itertools.islice(segmented, count))
    draw_label_maps(shown, examples.class_names, path)
