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

from zoo.types import InputError


def fields_to_json(fields: Mapping[str, object]) -> dict[str, object]:
    """A model's fields as JSON values: tuples as lists, dtypes as their names."""

    def plain(name: str, value: Any) -> object:
        if name == "dtype":
            return jnp.dtype(value).name
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
    """Whether a path is a training run's directory."""
    return (path / "config.json").is_file() and (path / "checkpoints").is_dir()


def read_run(directory: str | Path) -> tuple[str, dict[str, object], dict]:
    """The model's name, its fields and its variables, as numpy arrays, of a training run.

    The step with the highest score is taken, of equal ones the latest; if none was evaluated, the
    latest. A step that was not completely written is not seen.

    Raises:
        InputError: If the directory is not a run, or holds no complete checkpoint.
    """
    directory = Path(directory)
    if not is_run(directory):
        raise InputError(f"{directory}: not a run: it needs config.json and checkpoints/")
    try:
        entry = json.loads((directory / "config.json").read_text())["model"]
        name, fields = entry["name"], fields_from_json(entry["fields"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{directory}/config.json: no model's name and fields: {error}") from error
    step = _step(directory / "checkpoints")
    return name, fields, read_orbax(directory / "checkpoints" / str(step) / "variables")


def _step(checkpoints: Path) -> int:
    """The best step, else the latest one."""
    steps = ocp.utils.checkpoint_steps(checkpoints)
    if not steps:
        raise InputError(f"{checkpoints}: no complete checkpoint")

    def score(step: int) -> float:
        metrics = checkpoints / str(step) / "metrics" / "metrics"
        return json.loads(metrics.read_text()).get("score", -math.inf)

    return max(steps, key=lambda step: (score(step), step))


def is_orbax(path: Path) -> bool:
    """Whether a path is a folder with a tree that Orbax saved."""
    return (path / "_METADATA").is_file()


def read_orbax(item: Path) -> dict:
    """A saved tree as numpy arrays, whatever devices it was saved from."""
    path = epath.Path(item.absolute())
    handler = ocp.PyTreeCheckpointHandler()
    tree = handler.metadata(path).tree
    restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=restore_args))
