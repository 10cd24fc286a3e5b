"""Reads how images are prepared, and names of classes, from JSON of timm, Hugging Face, the zoo.

The files are beside the weights: timm's is ``config.json``, Hugging Face's is
``preprocessor_config.json``.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from zoo.text_files import read_text
from zoo.types import (
    CropMode,
    InputError,
    Interpolation,
    Preprocessing,
    ProposalSearch,
    check_choice,
)

TIMM_FILE = "config.json"
HUGGINGFACE_FILE = "preprocessor_config.json"

_HALF = (0.5, 0.5, 0.5)
_RESAMPLE: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}  # PIL's numbers
# Beginnings of the names of Hugging Face's classes for which a single number is the shorter
# side; for the others it is both sides.
_OF_SHORTER_SIDE = ("CLIP", "ConvNext", "DetrImage", "DetrFeature")
# From this side on, ConvNext's class, which ResNet uses too, does not crop.
_UNCROPPED = 384


def at_size(how: Preprocessing, model: Any) -> Preprocessing:
    """The same preprocessing at the model's image size, if the model has one."""
    size = getattr(model, "image_size", how.size)
    size = (size, size) if isinstance(size, int) else (size[0], size[1])
    return dataclasses.replace(how, size=size)


def to_json(how: Preprocessing) -> dict[str, object]:
    """The attributes by name, as JSON values; without ``proposals`` if there are none."""
    entry = msgspec.to_builtins(how)
    if how.proposals is None:
        del entry["proposals"]
    return entry


def from_json(entry: Mapping[str, Any]) -> Preprocessing:
    """The inverse of `to_json`; in older entries, without ``crop_mode``, it is ``center``.

    Raises:
        ValueError, KeyError: If a field is missing or out of its range; the message names it.
    """
    size, mean, std = (
        _numbers(entry, name, count) for name, count in (("size", 2), ("mean", 3), ("std", 3))
    )
    search = entry.get("proposals")
    return Preprocessing(
        (int(size[0]), int(size[1])),
        (mean[0], mean[1], mean[2]),
        (std[0], std[1], std[2]),
        entry["interpolation"],
        _number(entry, "crop_fraction"),
        entry.get("crop_mode", "center"),
        None if search is None else msgspec.convert(search, ProposalSearch),
    )


def preprocessing_beside(path: Path) -> Preprocessing | None:
    """The preprocessing in timm's or Hugging Face's file beside a checkpoint; None without one.

    Args:
        path: The checkpoint: a file, or a folder.

    Raises:
        InputError: If such a file is malformed; the message names the file and the field.
    """
    folder = path if path.is_dir() else path.parent
    for name, read in ((TIMM_FILE, _read_timm), (HUGGINGFACE_FILE, _read_huggingface)):
        if (folder / name).is_file() and (found := _read(folder / name, read)):
            return found
    return None


def names_beside(path: Path) -> tuple[str, ...]:
    """The names of the classes in timm's or Hugging Face's file beside a checkpoint; else none.

    Args:
        path: The checkpoint: a file, or a folder.

    Raises:
        InputError: If such a file is malformed; the message names the file.
    """
    config = (path if path.is_dir() else path.parent) / TIMM_FILE
    if not config.is_file():
        return ()
    try:
        content = json.loads(read_text(config))
        names = content.get("id2label", content.get("label_names"))
        if isinstance(names, dict):  # the numbers from 0, as strings
            names = [names[str(label)] for label in range(len(names))]
    except (OSError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{config}: the names of classes cannot be read: {error!r}") from error
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    # Files without names have LABEL_0, LABEL_1, ...
    return tuple(names) if named and names != [f"LABEL_{i}" for i in range(len(names))] else ()


def _read(
    path: Path, parse: Callable[[Mapping[str, Any]], Preprocessing | None]
) -> Preprocessing | None:
    try:
        config = json.loads(read_text(path))
        if not isinstance(config, dict):
            raise ValueError("not an object")
        return parse(config)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: how images are prepared cannot be read: {error}") from error


def _read_timm(config: Mapping[str, Any]) -> Preprocessing | None:
    """Reads timm's ``pretrained_cfg``, in older files the top level; None for other files."""
    config = config.get("pretrained_cfg", config)
    if not isinstance(config, dict):
        raise ValueError(f"pretrained_cfg is {config!r}, not an object")
    if "input_size" not in config:
        return None
    default = Preprocessing((224, 224))  # for missing fields, as in timm
    _, height, width = _numbers(config, "input_size", 3)
    crop_mode: CropMode = config.get("crop_mode") or default.crop_mode
    check_choice("crop_mode", crop_mode, CropMode)
    interpolation: Interpolation = config.get("interpolation") or default.interpolation
    check_choice("interpolation", interpolation, Interpolation)
    return Preprocessing(
        _sides(height, width),
        _color(config, "mean", default.mean),
        _color(config, "std", default.std, positive=True),
        interpolation,
        _fraction(config, default.crop_fraction),
        crop_mode,
    )


def _read_huggingface(config: Mapping[str, Any]) -> Preprocessing | None:
    """Reads the fields of Hugging Face's image processors; None for one that does not resize."""
    if "size" not in config:
        return None
    resample = config.get("resample", 2)
    if not isinstance(resample, int) or resample not in _RESAMPLE:
        raise ValueError(f"resample is {resample!r}, not 2 (bilinear) or 3 (bicubic)")
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if config.get("do_normalize", True):
        mean = _color(config, "image_mean", _HALF)
        std = _color(config, "image_std", _HALF, positive=True)
    size, crop_fraction, crop_mode = _huggingface_size(config)
    return Preprocessing(size, mean, std, _RESAMPLE[resample], crop_fraction, crop_mode)


def _huggingface_size(config: Mapping[str, Any]) -> tuple[tuple[int, int], float, CropMode]:
    """Height and width, crop fraction and crop mode, from the forms that Hugging Face uses."""
    size = _size_by_side(config)
    if "longest_edge" in size:  # a detector's: nothing is cropped
        both = _number(size, "shortest_edge"), _number(size, "longest_edge")
        return _sides(*both), Preprocessing.crop_fraction, "center"
    mode: CropMode = "center" if "shortest_edge" in size else "squash"
    names = ("shortest_edge",) * 2 if mode == "center" else ("height", "width")
    height, width = _sides(*(_number(size, name) for name in names))
    if config.get("do_center_crop"):
        inner = config.get("crop_size", min(height, width))
        if isinstance(inner, int):
            inner = {"height": inner, "width": inner}
        crop = _sides(_number(inner, "height"), _number(inner, "width"))
        fraction = min(crop) / min(height, width)
        if not fraction <= 1:
            raise ValueError(f"crop_size is {crop}, larger than size, {(height, width)}")
        if math.floor(min(crop) / fraction) < min(height, width):  # a rounding error
            fraction = math.nextafter(fraction, 0)
        return crop, fraction, mode
    if mode == "center" and height >= _UNCROPPED:
        mode = "squash"
    elif mode == "center":
        return (height, width), _fraction(config, 224 / 256), mode
    return (height, width), 1.0, mode


def _size_by_side(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The field ``size`` as a mapping of named sides, even if the file has one number."""
    size = config["size"]
    if isinstance(size, dict):
        return size
    side = _number(config, "size")
    if config.get("max_size") is not None:
        return {"shortest_edge": side, "longest_edge": _number(config, "max_size")}
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    if kind.startswith(_OF_SHORTER_SIDE) or "crop_pct" in config:
        return {"shortest_edge": side}
    return {"height": side, "width": side}


def _sides(height: float, width: float) -> tuple[int, int]:
    if min(height, width) < 1:
        raise ValueError(f"an image cannot have sides of {height} x {width}")
    return int(height), int(width)


def _fraction(config: Mapping[str, Any], default: float) -> float:
    found = default if config.get("crop_pct") is None else _number(config, "crop_pct")
    if not 0 < found <= 1:
        raise ValueError(f"crop_pct is {found}, not in 0..1")
    return found


def _color(
    config: Mapping[str, Any],
    name: str,
    default: tuple[float, float, float],
    *,
    positive: bool = False,
) -> tuple[float, float, float]:
    """A number for each channel."""
    if config.get(name) is None:
        return default
    red, green, blue = _numbers(config, name, 3)
    if positive and min(red, green, blue) <= 0:
        raise ValueError(f"{name} is {config[name]}, but must be positive")
    return red, green, blue


def _number(config: Any, name: str) -> float:
    value = config.get(name) if isinstance(config, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {value!r}, not a number")
    return value


def _numbers(config: Mapping[str, Any], name: str, count: int) -> list[float]:
    values = config.get(name)
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{name} is {values!r}, not {count} numbers")
    return [_number({name: value}, name) for value in values]
