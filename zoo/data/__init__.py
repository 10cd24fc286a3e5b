"""Data: sources, transforms and one loader for every task.

A name in `__all__` is imported when it is first used. So other modules, such as
`zoo.data.formats.coco`, can be imported without JAX and TFDS.
"""

from typing import TYPE_CHECKING

from zoo.lazy import attach

if TYPE_CHECKING:
    from zoo.data.augment.mix import mix_batch as mix_batch
    from zoo.data.classification import ClassificationData as ClassificationData
    from zoo.data.classification import open_classification as open_classification
    from zoo.data.dataset import Dataset as Dataset
    from zoo.data.detection import open_detection as open_detection
    from zoo.data.detection_config import DetectionData as DetectionData
    from zoo.data.errors import DataError as DataError
    from zoo.data.loader import eval_batches as eval_batches
    from zoo.data.loader import prefetch as prefetch
    from zoo.data.loader import train_batches as train_batches
    from zoo.data.segmentation import SegmentationData as SegmentationData
    from zoo.data.segmentation import open_segmentation as open_segmentation
    from zoo.data.transforms import normalize as normalize
    from zoo.data.transforms import valid_pixels as valid_pixels
    from zoo.data.translation import TranslationData as TranslationData
    from zoo.data.translation import open_translation as open_translation
    from zoo.data.translation import unbundle as unbundle

_HOMES = {
    "augment.mix": ["mix_batch"],
    "classification": ["ClassificationData", "open_classification"],
    "dataset": ["Dataset"],
    "detection": ["open_detection"],
    "detection_config": ["DetectionData"],
    "errors": ["DataError"],
    "loader": ["eval_batches", "prefetch", "train_batches"],
    "segmentation": ["SegmentationData", "open_segmentation"],
    "transforms": ["normalize", "valid_pixels"],
    "translation": ["TranslationData", "open_translation", "unbundle"],
}

__getattr__, __all__ = attach(
    __name__, {name: f"zoo.data.{home}" for home, names in _HOMES.items() for name in names}
)
