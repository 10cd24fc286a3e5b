"""Data: sources, transforms and one loader for every task."""

from zoo.data.classification import ClassificationData, open_classification
from zoo.data.detection import DetectionData, open_detection
from zoo.data.errors import DataError
from zoo.data.loader import Dataset, eval_batches, prefetch, train_batches
from zoo.data.mix import mix_batch
from zoo.data.segmentation import SegmentationData, open_segmentation
from zoo.data.transforms import normalize, valid_pixels
from zoo.data.translation import TranslationData, open_translation, unbundle

__all__ = [
    "ClassificationData",
    "DataError",
    "Dataset",
    "DetectionData",
    "SegmentationData",
    "TranslationData",
    "eval_batches",
    "mix_batch",
    "normalize",
    "open_classification",
    "open_detection",
    "open_segmentation",
    "open_translation",
    "prefetch",
    "train_batches",
    "unbundle",
    "valid_pixels",
]
