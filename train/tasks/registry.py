"""All tasks, by the name that families declare."""

from typing import Any

from train.tasks.classification import Classification
from train.tasks.detection import Detection
from train.tasks.mae import MaskedAutoencoding
from train.tasks.segmentation import Segmentation
from train.tasks.translation import Translation

TASKS: dict[str, Any] = {
    task.kind: task
    for task in (Classification, Detection, MaskedAutoencoding, Segmentation, Translation)
}
