"""Reads a training run's directory: its model and its best or latest parameters.

The directory holds ``config.json``, whose entry ``model`` is the model's name and fields, and
``checkpoints/<step>/`` in Orbax's format. A checkpoint has the item ``variables`` and the item
``metrics``, with a ``score`` if the step was evaluated.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from zoo.text_files import read_text
from zoo.types import InputError, Preprocessing, ProposalSearch
from zoo.weights.checksums import MANIFEST, check_arrays, check_files
from zoo.weights.preprocessing import from_json, to_json


def fields_to_json(fields: Mapping[str, object]) -> dict[str, object]:
    """A model's fields as JSON values: tuples as lists, dtypes as their names."""

    def plain(name: str, value: Any) -> object:
        if name == "dtype":
            return jnp.dtype(value).name
        if isinstance(value, Mapping):
            return fields_to_json(value)
        if isinstance(value, Preprocessing):
            return to_json(value)
        return list(value) if isinstance(value, tuple) else value

    return {name: plain(name, value) for name, value in fields.items()}


def fields_from_json(fields: Mapping[str, object]) -> dict[str, object]:
    """The inverse of `fields_to_json`; lists become tuples, because fields must be hashable."""

    def field(name: str, value: Any) -> object:
        if name == "dtype":
            return getattr(jnp, value)
        if name == "preprocessing" and value is not None:
            return from_json(value)
        return tuple(value) if isinstance(value, list) else value

    return {name: field(name, value) for name, value in fields.items()}


def is_run(path: Path) -> bool:
    """Whether a path is a training run's directory, or one of its ``checkpoints/<step>``."""
    return any((run / "config.json").is_file() for run in (path, *path.parents[1:2])) and (
        (path / "checkpoints").is_dir() or path.parent.name == "checkpoints"
    )


def complete_steps(checkpoints: Path | epath.Path) -> list[int]:
    """The steps of a run's folder ``checkpoints`` that were written completely, ascending.

    Orbax's unfinished folders have another name. A folder that was copied only in part lacks the
    files of Orbax, and has no checksums by which it would be known as damaged.
    """

    def complete(step: Path | epath.Path) -> bool:
        return (step / MANIFEST).exists() or all((step / name).exists() for name in _FILES)

    if not checkpoints.is_dir():
        return []
    steps = ocp.utils.checkpoint_steps(epath.Path(checkpoints))
    return sorted(step for step in steps if complete(checkpoints / str(step)))


_FILES = ("_CHECKPOINT_METADATA", "variables/_METADATA", "metrics/metrics")


def read_run(path: str | Path) -> tuple[str, dict[str, object], dict]:
    """Reads a training run: the model's name, its fields, and its variables as numpy arrays.

    Args:
        path: The run's directory, for its best step, or one of its ``checkpoints/<step>``.

    Raises:
        InputError: If the path is not a run, or its checkpoint is missing, incomplete or damaged.
    """
    path = Path(path)
    if not is_run(path):
        raise InputError(f"{path}: not a run: it needs config.json and checkpoints/")
    if path.parent.name == "checkpoints":
        directory, step = path.parents[1], path
        if path.name not in map(str, complete_steps(path.parent)):
            raise InputError(f"{path}: not a complete checkpoint")
    else:
        directory, step = path, path / "checkpoints" / str(choose_step(path, "best"))
    try:
        entry = json.loads(read_text(directory / "config.json"))["model"]
        name, fields = entry["name"], fields_from_json(entry["fields"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{directory}/config.json: no model's name and fields: {error}") from error
    folder = epath.Path(step.absolute())
    check_files(folder)
    variables = read_orbax(step / "variables")
    check_arrays(folder, "variables", variables)
    return name, fields, variables


def has_images(path: Path) -> bool:
    """Whether a run's data are images with a mean and a std in the run's configuration."""
    try:
        return json.loads(read_text(_config(path)))["data"].get("mean") is not None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def run_preprocessing(path: str | Path) -> Preprocessing:
    """How a run prepares the images on which its model is evaluated.

    Raises:
        InputError: If the path is not a run, or its images have no fixed size.
    """
    config = _config(Path(path).expanduser())
    try:
        data = json.loads(read_text(config))["data"]
        mean, std = tuple(data["mean"]), tuple(data["std"])
        size = _detected_size(data) if "buckets" in data else tuple(data["image_size"])
        # Segmentation data keep the size of an image, so they lack these fields.
        interpolation = data.get("interpolation", "bilinear")
        mode = "letterbox" if data.get("letterbox") else data.get("crop_mode", "center")
        crop = data.get("crop_fraction", 1.0), mode
        search = None
        if data.get("proposals") is not None:
            search = msgspec.convert(data["search"], ProposalSearch)
        return Preprocessing(size, mean, std, interpolation, *crop, search)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{config}: no size, mean and std of images: {error}") from error


def class_names(path: str | Path) -> tuple[str, ...]:
    """The name of each class that a training run's model knows, by label.

    Args:
        path: The run's directory, or one of its ``checkpoints/<step>``.

    Raises:
        InputError: If the path is not a run, or its data have no classes.
    """
    config = _config(Path(path).expanduser())
    try:
        return tuple(json.loads(read_text(config))["class_names"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{config}: no names of classes: {error}") from error


def _config(run: Path) -> Path:
    """The path of a run's configuration, given the run or one of its checkpoints."""
    return (run.parents[1] if run.parent.name == "checkpoints" else run) / "config.json"


def _detected_size(data: Mapping[str, Any]) -> tuple[int, int]:
    """The largest shorter side and longer side of a detector's images in evaluation."""
    sides = [sorted(bucket) for bucket in data["buckets"]]
    short, long = (max(column) for column in zip(*sides, strict=True))
    if data["short_sides"]:
        short, long = min(short, max(data["short_sides"])), min(long, data["long_side"])
    return short, long


def average_run(directory: Path, count: int) -> tuple[dict, list[int]]:
    """The mean of the variables of a run's last checkpoints (arXiv 1706.03762, section 6.1).

    Returns:
        The mean, as numpy arrays, and the steps that were averaged, ascending.

    Raises:
        InputError: If the directory is not a run, or has fewer than `count` checkpoints.
    """
    last = choose_step(directory, "last")
    checkpoints = directory / "checkpoints"
    steps = [step for step in complete_steps(checkpoints) if step <= last][-count:]
    if len(steps) < count:
        raise InputError(f"{directory} has {len(steps)} checkpoints, not {count}; see --keep")
    total, *rest = (read_orbax(checkpoints / str(step) / "variables") for step in steps)
    for variables in rest:
        total = jax.tree.map(np.add, total, variables)
    return jax.tree.map(lambda x: (x / count).astype(x.dtype), total), steps


def choose_step(directory: Path, which: str) -> int:
    """A step of a run: the ``best``, the ``last``, or one by its number.

    The best step has the highest score; of steps with equal scores it is the latest. If no step was
    evaluated, it is the last step. Steps that were not written completely are ignored.

    Raises:
        InputError: If the directory is not a run, or has no such step.
    """
    if not is_run(directory):
        raise InputError(f"{directory}: not a run: it needs config.json and checkpoints/")
    checkpoints = directory / "checkpoints"
    steps = complete_steps(checkpoints)
    if not steps:
        raise InputError(f"{checkpoints}: no complete checkpoint")
    if which == "last":
        return steps[-1]
    if which == "best":
        return max(steps, key=lambda step: (_score(checkpoints / str(step)), step))
    if which not in map(str, steps):
        raise InputError(f"{directory} has no checkpoint {which!r}; there are best, last, {steps}")
    return int(which)


def _score(step: Path) -> float:
    """The score of a step; minus infinity if it was not evaluated."""
    metrics = step / "metrics" / "metrics"
    check_files(epath.Path(step.absolute()), lambda name: name.startswith("metrics/"))
    return json.loads(metrics.read_text()).get("score", -math.inf)


def is_orbax(path: Path) -> bool:
    """Whether a path is a folder with a tree that Orbax saved."""
    return (path / "_METADATA").is_file()


def read_orbax(item: Path) -> dict:
    """Reads a saved tree as numpy arrays; it may have been saved from any devices.

    Raises:
        InputError: If the tree is damaged.
    """
    path = epath.Path(item.absolute())
    handler = ocp.PyTreeCheckpointHandler()
    try:
        tree = handler.metadata(path).tree
        restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=restore_args))
    except Exception as error:  # any exception of Orbax or TensorStore for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{item}: cannot be read: {reason}") from error
