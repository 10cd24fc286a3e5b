"""A run's folder: its ``config.json`` and its lock; and the model that settings and data make."""

import dataclasses
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
from etils import epath
from flax import linen as nn
from rich.console import Console

import zoo
from train.config import Config, ConfigError, model_field_names, to_json
from train.tasks import Batch
from zoo.data import Dataset

# Settings that a resumed run may change, since they do not change what it computes.
_FREE = (
    *("log_every", "eval_every", "checkpoint_every", "keep"),
    *("parallel", "mesh.data", "mesh.fsdp", "profile.steps"),
    *("distributed.coordinator", "distributed.processes", "distributed.process"),
    *("data.data_dir", "data.threads", "data.workers", "data.on_error"),
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


def build(config: Config, batch: Batch) -> tuple[nn.Module, Any]:
    """The model of a completed configuration, and the shapes of its variables.

    Raises:
        ConfigError: If the model refuses its fields, or batches like this one.
    """
    try:
        model = zoo.create(config.model.name, **config.model.fields)
        init = partial(config.task.init, model)
        return model, jax.eval_shape(init, jax.random.key(0), batch)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{config.model.name}: {str(error).splitlines()[0]}") from error


def initial_variables(config: Config, model: Any, console: Console) -> dict[str, Any] | None:
    """The variables of the checkpoint to start from, whole or a backbone's; None without one.

    Raises:
        InputError: If the checkpoint cannot be read, or does not fit.
    """
    if config.init is not None:
        name, fields = config.model.name, config.model.fields
        _, variables, report = zoo.load_with_report(name, config.init, **fields)
        console.print(str(report), soft_wrap=True)
        return dict(variables)
    if config.init_backbone is None:
        return None
    if not hasattr(model, "backbone"):
        raise ConfigError(
            f"init_backbone: {config.model.name} has no backbone of its own; use init"
        )
    fields = {**model.backbone_fields, "num_classes": 0}
    _, variables, report = zoo.load_with_report(model.backbone, config.init_backbone, **fields)
    console.print(str(report), soft_wrap=True)
    return {collection: {"body": tree} for collection, tree in variables.items()}


@contextmanager
def locked(workdir: epath.Path) -> Iterator[None]:
    """Makes a run's folder, and keeps other processes out of it until this one ends, however.

    A bucket has no locks: there, two runs in one folder are the user's own doing.

    Raises:
        ConfigError: If the folder cannot be made, or another process trains in it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = None if is_remote(workdir) else (workdir / ".lock").open("w")
    except OSError as error:
        raise ConfigError(f"--workdir={workdir}: {error.strerror}") from error
    if lock is None:
        yield
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another process is training in {workdir}") from None
        yield


def check_same(workdir: epath.Path, config: Config) -> None:
    """Raises ConfigError, naming the first difference, if a run there has other settings."""
    path = workdir / "config.json"
    try:
        there = flatten(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}); restore it, or take another --workdir"
        ) from error
    asked = flatten(json.loads(json.dumps(to_json(config))))  # tuples become lists, as in the file
    for name in asked:
        if there.get(name) != asked[name] and name not in _FREE:
            raise ConfigError(
                f"{workdir} holds a run with {name}={there.get(name)}, not {asked[name]}:"
                " give it its own settings to go on, or take another --workdir"
            )


def write_config(workdir: epath.Path, config: Config, examples: Dataset) -> None:
    """Writes ``config.json``, the settings and the names of the classes, and the data's files."""
    for name, file in examples.files.items():
        (workdir / name).write_bytes(file)
    content = {**to_json(config), "class_names": examples.class_names}
    replace_text(workdir / "config.json", json.dumps(content, indent=2) + "\n")


def is_remote(path: epath.Path) -> bool:
    """Whether a path is in a bucket, as gs://bucket/run."""
    return "://" in str(path)


def replace_text(path: epath.Path, text: str) -> None:
    """Writes a file whole or not at all, however the process ends."""
    if is_remote(path):  # an object appears when it is whole
        path.write_text(text)
        return
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
