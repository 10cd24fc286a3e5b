"""The checks that `train.doctor` makes before an expensive run, one file for each task."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flax import linen as nn

from train.checks import classification, detection, segmentation, translation
from train.checks.findings import Findings
from train.config import Config
from train.tasks import Batch, Put
from train.tasks.classification import Classification
from train.tasks.detection import Detection
from train.tasks.mae import MaskedAutoencoding
from train.tasks.segmentation import Segmentation
from train.tasks.translation import Translation
from zoo.data import Dataset

__all__ = ["CHECKS", "Checks", "Findings"]


@dataclasses.dataclass(frozen=True)
class Checks:
    """The checks of a task.

    Attributes:
        explain: Called if the data cannot be opened: gives the probable cause, or None if the cause
            is not known.
        inspect: Gives a table of the classes, and the problems in the annotations.
        draw: Draws a batch with its targets.
        score_truth: Evaluates the ground truth as if it were predictions, by the same code. The
            figure that the task names as its best, or else the first figure, must be 1, and so must
            the same figure of other parts of the objects, as ``keypoint_AP``. None if the task has
            no ground truth.
        missing_outputs: Gives a problem for each part of the annotations that the model of a
            completed configuration does not predict, for a batch of the training data. None if the
            annotations have only one part.
        first_metrics: Gives notes and problems for the loss and metrics of the first step on a
            batch. None if they say nothing about the settings.
        score_batch: Evaluates a model, with these variables, on a batch of the training data. None
            if the figures of training say the same.
    """

    explain: Callable[[Config], str | None]
    inspect: Callable[[Any, Dataset, Dataset], Findings]
    draw: Callable[[Any, Dataset, Batch, Path], None]
    score_truth: Callable[[Any, Dataset, int, Put], dict[str, float]] | None
    missing_outputs: Callable[[Config, Batch], list[str]] | None = None
    first_metrics: Callable[[dict[str, float]], tuple[list[str], list[str]]] | None = None
    score_batch: (
        Callable[[Config, nn.Module, Mapping[str, Any], Batch], dict[str, float]] | None
    ) = None


CHECKS: dict[type, Checks] = {
    Classification: Checks(
        lambda config: None,
        classification.inspect,
        classification.draw,
        classification.score_truth,
    ),
    Detection: Checks(
        detection.explain,
        detection.inspect,
        detection.draw,
        detection.score_truth,
        detection.missing_outputs,
        detection.unmatched,
        detection.score_batch,
    ),
    MaskedAutoencoding: Checks(
        lambda config: None, classification.inspect, classification.draw, None
    ),
    Segmentation: Checks(
        lambda config: None, segmentation.inspect, segmentation.draw, segmentation.score_truth
    ),
    Translation: Checks(
        lambda config: None, translation.inspect, translation.draw, translation.score_truth
    ),
}
