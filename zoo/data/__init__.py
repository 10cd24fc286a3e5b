"""Data: sources, transforms and one loader for every task."""

from zoo.data.classification import ClassificationData, open_classification
from zoo.data.detection import DetectionData, open_detection
from zoo.data.errors import DataError
from zoo.data.loader import Dataset, eval_batches, prefetch, train_batches
from zoo.data.mix import mix_batch
from zoo.data.segmentation import SegmentationData, open_segmentation
from zoo.data.transforms import normalize, valid_pixels

__all__ = [
    "ClassificationData",
    "DataError",
    "Dataset",
    "DetectionData",
    "SegmentationData",
    "eval_batches",
    "mix_batch",
    "normalize",
    "open_classification",
    "open_detection",
    "open_segmentation",
    "prefetch",
    "train_batches",
    "valid_pixels",
]
