"""What `train.doctor` looks at before an expensive run, one file a task."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        explain: What is probably wrong when the data cannot be opened; None if it cannot tell.
        inspect: A table of the classes, and what is suspicious about the annotations.
        draw: Draws a batch with its targets.
        score_truth: The task's figures for the ground truth as predictions, through everything
            that predictions go through; the task's best figure, or the only one, has to be 1.
            None where there is no ground truth.
    """

    explain: Callable[[Config], str | None]
    inspect: Callable[[Any, Dataset, Dataset], Findings]
    draw: Callable[[Any, Dataset, Batch, Path], None]
    score_truth: Callable[[Any, Dataset, int, Put], dict[str, float]] | None


CHECKS: dict[type, Checks] = {
    Classification: Checks(
        lambda config: None,
        classification.inspect,
        classification.draw,
        classification.score_truth,
    ),
    Detection: Checks(detection.explain, detection.inspect, detection.draw, detection.score_truth),
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
