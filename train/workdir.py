"""A run's folder: its ``config.json``, and the model that the settings and the data make."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from flax import linen as nn

import zoo
from train.config import Config, ConfigError, model_field_names, to_json
from zoo.data import Dataset

# Settings that a resumed run may change, since they do not change what it computes.
_FREE = (
    *("log_every", "eval_every", "checkpoint_every", "keep", "parallel"),
    *("data.data_dir", "data.threads", "data.workers"),
)


def complete(config: Config, examples: Dataset) -> Config:
    """The configuration with the fields of the model that the data decide filled in.

    Raises:
        ConfigError: If such a field was set to something that the data do not have.
    """
    name, fields = config.model.name, config.model.fields
    known = model_field_names(name)
    decided = config.task.model_fields(config.data, examples)
    decided = {field: value for field, value in decided.items() if field in known}
    for field, value in decided.items():
        if fields.get(field, value) != value:
            raise ConfigError(f"model.{field} is {fields[field]}, but the data have {value}")
    return dataclasses.replace(
        config, model=dataclasses.replace(config.model, fields={**decided, **fields})
    )


def build(config: Config) -> nn.Module:
    """The model of a completed configuration."""
    return zoo.create(config.model.name, **config.model.fields)


def claim(workdir: Path, config: Config) -> None:
    """Writes ``config.json``, or checks that the one that is there says the same.

    Raises:
        ConfigError: If `workdir` holds a run with other settings; the first is named.
    """
    path = workdir / "config.json"
    new = json.loads(json.dumps(to_json(config)))  # tuples become lists, as in the file
    if path.exists():
        there, asked = flatten(json.loads(path.read_text())), flatten(new)
        for name in sorted(there.keys() | asked.keys()):
            if there.get(name) != asked.get(name) and name not in _FREE:
                raise ConfigError(
                    f"{workdir} holds a run with {name}={there.get(name)}, not {asked.get(name)}:"
                    " give it its own settings to go on, or take another --workdir"
                )
    workdir.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(new, indent=2) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all, however the process ends."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted names."""
    flat = {}
    for name, value in tree.items():
        nested = isinstance(value, dict)
        flat |= flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat
