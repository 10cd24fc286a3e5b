"""Reading a training run's directory: its model and its best or latest parameters.

The directory holds ``config.json``, whose entry ``model`` is the model's name and fields, and
``checkpoints/<step>/`` in Orbax's format: the item ``variables``, and in the item ``metrics`` the
``score`` of a step that was evaluated.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from zoo.types import InputError, Preprocessing
from zoo.weights.checksums import check_arrays, check_files


def fields_to_json(fields: Mapping[str, object]) -> dict[str, object]:
    """A model's fields as JSON values: tuples as lists, dtypes as their names."""

    def plain(name: str, value: Any) -> object:
        if name == "dtype":
            return jnp.dtype(value).name
        if isinstance(value, Mapping):
            return fields_to_json(value)
        return list(value) if isinstance(value, tuple) else value

    return {name: plain(name, value) for name, value in fields.items()}


def fields_from_json(fields: Mapping[str, object]) -> dict[str, object]:
    """The inverse of `fields_to_json`; a Linen module's fields must be hashable."""

    def field(name: str, value: Any) -> object:
        if name == "dtype":
            return getattr(jnp, value)
        return tuple(value) if isinstance(value, list) else value

    return {name: field(name, value) for name, value in fields.items()}


def is_run(path: Path) -> bool:
    """Whether a path is a training run's directory, or one of its ``checkpoints/<step>``."""
    return any((run / "config.json").is_file() for run in (path, *path.parents[1:2])) and (
        (path / "checkpoints").is_dir() or path.parent.name == "checkpoints"
    )


def read_run(path: str | Path) -> tuple[str, dict[str, object], dict]:
    """The model's name, its fields and its variables, as numpy arrays, of a training run.

    Args:
        path: The run's directory, for its best step, or one of its ``checkpoints/<step>``.

    Raises:
        InputError: If the path is not a run, or holds no complete checkpoint, or a damaged one.
    """
    path = Path(path)
    if not is_run(path):
        raise InputError(f"{path}: not a run: it needs config.json and checkpoints/")
    if path.parent.name == "checkpoints":
        directory, step = path.parents[1], path
    else:
        directory, step = path, path / "checkpoints" / str(choose_step(path, "best"))
    try:
        entry = json.loads((directory / "config.json").read_text())["model"]
        name, fields = entry["name"], fields_from_json(entry["fields"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{directory}/config.json: no model's name and fields: {error}") from error
    folder = epath.Path(step.absolute())
    check_files(folder)
    variables = read_orbax(step / "variables")
    check_arrays(folder, "variables", variables)
    return name, fields, variables


def run_preprocessing(path: str | Path) -> Preprocessing:
    """How a run's data prepare the images that its model is evaluated on.

    Raises:
        InputError: If the path is not a run, or its images are of no one size.
    """
    path = Path(path).expanduser()
    config = path / "config.json"
    if path.parent.name == "checkpoints":
        config = path.parents[1] / "config.json"
    try:
        data = json.loads(config.read_text())["data"]
        size, mean, std = _size(data), tuple(data["mean"]), tuple(data["std"])
        # Segmentation keeps an image's own size.
        interpolation = data.get("interpolation", "bilinear")
        return Preprocessing(size, mean, std, interpolation, data.get("crop_fraction", 1.0))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{config}: no size, mean and std of images: {error}") from error


def _size(data: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width; of a detection run's images the shorter and the longer side."""
    if "image_size" in data:
        return tuple(data["image_size"])
    if data["short_sides"]:
        return max(data["short_sides"]), data["long_side"]
    (size,) = data["buckets"]  # images keep their own size, which one bucket is the measure of
    return min(size), max(size)


def class_names(path: str | Path) -> tuple[str, ...]:
    """The name of each class that a training run's model knows, by label.

    Args:
        path: The run's directory.

    Raises:
        InputError: If the path is not a run, or its data have no classes.
    """
    config = Path(path).expanduser() / "config.json"
    try:
        return tuple(json.loads(config.read_text())["class_names"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{config}: no names of classes: {error}") from error


def average_run(directory: Path, count: int) -> tuple[dict, list[int]]:
    """The mean of the variables of a run's last checkpoints (arXiv 1706.03762, section 6.1).

    Returns:
        The variables, as numpy arrays, and the steps they are of, ascending.

    Raises:
        InputError: If the directory is not a run, or has fewer checkpoints.
    """
    last = choose_step(directory, "last")
    checkpoints = directory / "checkpoints"
    steps = [s for s in sorted(ocp.utils.checkpoint_steps(checkpoints)) if s <= last][-count:]
    if len(steps) < count:
        raise InputError(f"{directory} has {len(steps)} checkpoints, not {count}; see --keep")
    total, *rest = (read_orbax(checkpoints / str(step) / "variables") for step in steps)
    for variables in rest:
        total = jax.tree.map(np.add, total, variables)
    return jax.tree.map(lambda x: (x / count).astype(x.dtype), total), steps


def choose_step(directory: Path, which: str) -> int:
    """A step of a run: the ``best``, the ``last``, or one by its number.

    The best is the one with the highest score, of equal ones the latest; if none was evaluated, it
    is the last. A step that was not completely written is not seen.

    Raises:
        InputError: If the directory is not a run, or has no such step.
    """
    if not is_run(directory):
        raise InputError(f"{directory}: not a run: it needs config.json and checkpoints/")
    checkpoints = directory / "checkpoints"
    steps = sorted(ocp.utils.checkpoint_steps(checkpoints))
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
    """The score of a step; less than any if it was not evaluated."""
    metrics = step / "metrics" / "metrics"
    check_files(epath.Path(step.absolute()), lambda name: name.startswith("metrics/"))
    return json.loads(metrics.read_text()).get("score", -math.inf)


def is_orbax(path: Path) -> bool:
    """Whether a path is a folder with a tree that Orbax saved."""
    return (path / "_METADATA").is_file()


def read_orbax(item: Path) -> dict:
    """A saved tree as numpy arrays, whatever devices it was saved from.

    Raises:
        InputError: If it is damaged.
    """
    path = epath.Path(item.absolute())
    handler = ocp.PyTreeCheckpointHandler()
    try:
        tree = handler.metadata(path).tree
        restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=restore_args))
    except Exception as error:  # whatever Orbax and TensorStore raise for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{item}: cannot be read: {reason}") from error
