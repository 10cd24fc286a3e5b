"""Data: sources, transforms and one loader for every task."""

from zoo.data.classification import ClassificationData, open_classification
from zoo.data.errors import DataError
from zoo.data.loader import Dataset, eval_batches, prefetch, train_batches
from zoo.data.mix import mix_batch
from zoo.data.transforms import normalize

__all__ = [
    "ClassificationData",
    "DataError",
    "Dataset",
    "eval_batches",
    "mix_batch",
    "normalize",
    "open_classification",
    "prefetch",
    "train_batches",
]
