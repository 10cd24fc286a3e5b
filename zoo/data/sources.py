"""Sources."""

import dataclasses
from typing import Any

import tensorflow_datasets as tfds

from zoo.data.digits import Digits


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """Source."""

    examples: Any
    class_names: tuple[str, ...]


def open_source(source: str, data_dir: str | None, split: str) -> ImageSource:
    """Opens."""
    builder = Digits(data_dir=data_dir, file_format="array_record")
    if not builder.is_prepared():
        builder.download_and_prepare()
    raw = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    return ImageSource(raw, tuple(builder.info.features["label"].names))
