"""Data settings that may be None: the images are then preprocessed as the model expects."""

import dataclasses
from typing import Any, TypeVar

from zoo.data.errors import DataError
from zoo.types import Preprocessing

T = TypeVar("T")

_FIELDS = ("mean", "std", "interpolation", "crop_fraction", "crop_mode")


def left_to_the_model(data: Any) -> tuple[str, ...]:
    """Names of the fields that are None, which means the model's own values."""
    return tuple(name for name in _FIELDS if getattr(data, name, 0) is None)


def fill_in(data: T, how: Preprocessing) -> T:
    """The settings, with the fields that are None replaced by those of a model's preprocessing."""
    found: dict[str, Any] = {name: getattr(how, name) for name in left_to_the_model(data)}
    return dataclasses.replace(data, **found) if found else data  # pyright: ignore[reportArgumentType]


def prepared(data: Any, size: tuple[int, int]) -> Preprocessing:
    """The settings' preprocessing of images of a size; raises DataError if a field is None."""
    if names := left_to_the_model(data):
        raise DataError(
            f"data.{names[0]} is none: a run takes it from its model; to open the data without a"
            " run, set it as in zoo.preprocessing(MODEL)"
        )
    given = {name: getattr(data, name) for name in _FIELDS if hasattr(data, name)}
    return Preprocessing(size, **given)
