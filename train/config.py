"""The settings of a run: frozen dataclasses, and ``--field.sub=value`` overrides for them."""

import dataclasses
import logging
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import jax.numpy as jnp
import msgspec

from train.optim import OptimConfig
from train.tasks import Task
from zoo.registry import MODELS, family_named, unknown
from zoo.types import InputError

T = TypeVar("T")
_MODEL = "--model.name="


class ConfigError(InputError):
    """A recipe, field or value of the configuration is wrong."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The arguments that create the model: ``zoo.create(name, **fields)``.

    Attributes:
        name: A registered model; ``python -m zoo list`` lists them.
        fields: Fields of the model, by name.
        implied: Names of those fields that a run takes from the kind of its ``init``.
    """

    name: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    implied: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """The number of devices along each axis of the mesh.

    Attributes:
        data: Length of the axis along which devices hold different rows of the batch and the same
            parameters. None is the number of all devices divided by `fsdp`.
        fsdp: Length of the axis along which devices hold different rows of the batch and, with
            ``parallel=fsdp``, different parts of the parameters. None is, with ``parallel=fsdp``,
            the number of all devices divided by `data`, and 1 otherwise. If both are None with
            ``parallel=fsdp``, all devices are on this axis.
    """

    data: int | None = None
    fsdp: int | None = None

    def __post_init__(self) -> None:
        for name in ("data", "fsdp"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"mesh.{name} is {getattr(self, name)}, but must be at least 1")


@dataclasses.dataclass(frozen=True)
class DistributedConfig:
    """The processes that train together; a field that is None is read from the environment.

    Attributes:
        coordinator: HOST:PORT on the host of process 0, which all processes can reach.
        processes: Number of processes.
        process: Number of this process, counted from 0.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """The steps that the profiler traces.

    Attributes:
        steps: FIRST:LAST, the steps whose trace is written to ``DIR/profile``; None traces nothing.
    """

    steps: str | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and not self.span:
            raise ConfigError(f"profile.steps is {self.steps}, but must be FIRST:LAST, as 10:15")

    @property
    def span(self) -> range:
        """The numbers of the traced steps; empty if `steps` is None or not FIRST:LAST."""
        first, _, last = (self.steps or "").partition(":")
        return range(int(first), int(last) + 1) if (first + last).isdecimal() and last else range(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a run.

    Attributes:
        recipe: Name of the recipe that made this configuration.
        model: The model that is trained.
        data: The data for training and evaluation: the frozen dataclass that `task` opens.
        task: Computes the losses of a batch and the evaluation figures of a model.
        optim: Optimiser and schedule.
        steps: Number of optimiser steps.
        batch_size: Examples of one step, over all devices and hosts.
        seed: Seed of initialisation, data order, augmentation and dropout.
        log_every: Steps between entries of metrics.jsonl.
        eval_every: Steps between evaluations; the last step is always evaluated.
        checkpoint_every: Steps between checkpoints; an evaluation also saves one.
        keep: Number of latest checkpoints that are kept; the best one is kept in addition.
        init: The checkpoint that training starts from, in any form that `zoo.load` takes.
        init_backbone: The same, but only for the backbone, of models that have one.
        accumulate: Number of equal parts into which a batch is divided and which are computed one
            after another, so that a large batch fits into memory. The loss is that of the whole
            batch, but BatchNorm normalises each part by itself.
        ema: Decay of the moving average of all variables; evaluation then uses the average. None
            computes no average.
        parallel: How a step is spread over devices: ``data`` splits the batch, ``fsdp`` splits the
            batch and the state, ``pmap`` computes one replica on each device.
        mesh: How many devices share the batch, and how many share the state.
        distributed: The processes that train together.
        profile: The steps that the profiler traces.
    """

    recipe: str
    model: ModelConfig
    data: Any
    task: Task
    optim: OptimConfig
    steps: int
    batch_size: int
    seed: int = 0
    log_every: int = 50
    eval_every: int = 1_000
    checkpoint_every: int = 1_000
    keep: int = 2
    init: str | None = None
    init_backbone: str | None = None
    accumulate: int = 1
    ema: float | None = None
    parallel: Literal["data", "fsdp", "pmap"] = "data"
    mesh: MeshConfig = MeshConfig()
    distributed: DistributedConfig = DistributedConfig()
    profile: ProfileConfig = ProfileConfig()

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "eval_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise ConfigError(
                f"accumulate={self.accumulate} does not divide batch_size={self.batch_size}"
            )
        if self.init is not None and self.init_backbone is not None:
            raise ConfigError("init also sets the backbone: give init or init_backbone, not both")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, but must be at least 0")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ConfigError(f"ema is {self.ema}, but must be in 0..1 and below 1, or none")
        family = family_named(self.model.name)
        if family.task != self.task.kind:
            others = sorted(name for name, other in MODELS.items() if other.task == self.task.kind)
            raise ConfigError(
                f"--model.name={self.model.name}: it is for {family.task}, but {self.recipe} trains"
                f" for {self.task.kind}; models for that are {', '.join(others)}"
            )


def to_json(config: Config) -> dict[str, Any]:
    """The configuration as JSON values."""
    return msgspec.to_builtins(config)


def override(config: T, arguments: Iterable[str]) -> T:
    """The configuration with every ``--field.sub=value`` of the command line applied, in order.

    ``--model.name=NAME`` is applied before all others, wherever it is on the command line. It keeps
    the model fields of the recipe that the new model also has, and warns about those that it drops.

    Args:
        config: A frozen dataclass, whose fields may be frozen dataclasses too.
        arguments: The arguments of the command line.

    Raises:
        ConfigError: If a field is unknown, or does not take the value.
    """
    for argument in sorted(arguments, key=lambda text: not text.startswith(_MODEL)):
        path, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not equals:
            raise ConfigError(f"{argument!r} is not of the form --field=value or --field.sub=value")
        config = _replace(config, path.split("."), text, path)
        if argument.startswith(_MODEL):
            config = _with_loss_of_family(config)
    return config


def _with_loss_of_family(config: Any) -> Any:
    """Replaces the task's loss by the default loss of the model's family, if its type differs."""
    loss = family_named(config.model.name).loss
    if loss is None or type(getattr(config.task, "loss", None)) is loss:
        return config
    return dataclasses.replace(config, task=dataclasses.replace(config.task, loss=loss()))


def _replace(node: Any, parts: list[str], text: str, path: str) -> Any:
    """The dataclass `node` with the field at the path `parts` set to the value in `text`."""
    name, *rest = parts
    if isinstance(node, ModelConfig) and name != "name" and not rest:
        return dataclasses.replace(
            node, fields={**node.fields, name: _model_field(node.name, name, text, path)}
        )
    fields = [field.name for field in dataclasses.fields(node)]
    if name not in fields or name == "recipe":
        hint = ""
        if hasattr(getattr(node, "loss", None), name):
            hint = f"; it is one of the loss: --{path.removesuffix(name)}loss.{name}"
        raise ConfigError(f"--{path}: {unknown('field', name, set(fields) - {'recipe'})}{hint}")
    old = getattr(node, name)
    if dataclasses.is_dataclass(old):
        if not rest:
            subfields = ", ".join(field.name for field in dataclasses.fields(old))
            raise ConfigError(f"--{path} is a group: set --{path}.FIELD, one of {subfields}")
        return dataclasses.replace(node, **{name: _replace(old, rest, text, path)})
    if rest:
        raise ConfigError(f"--{path}: {name} has no fields of its own; set --{name}=VALUE")
    value = _convert(text, typing.get_type_hints(type(node))[name], path)
    if isinstance(node, ModelConfig):
        if value not in MODELS:
            raise ConfigError(f"--{path}: {unknown('model', value, MODELS)}")
        known = model_field_names(value)
        kept = {field: given for field, given in node.fields.items() if field in known}
        for field in node.fields.keys() - kept.keys():
            logging.getLogger(__name__).warning(
                "note: %s has no field %s: %r of the recipe's model is left out",
                *(value, field, node.fields[field]),
            )
        return ModelConfig(value, kept)
    return dataclasses.replace(node, **{name: value})


def model_field_names(model: str) -> set[str]:
    """The fields of a named model that can be set: all but those that `data` sets."""
    return family_named(model).field_names() - {"preprocessing", "class_names"}


def _model_field(model: str, name: str, text: str, path: str) -> Any:
    """The value of a model's field; a dtype is given by its name, so that JSON can hold it."""
    hints = typing.get_type_hints(family_named(model).module)
    known = model_field_names(model)
    if name not in known:
        raise ConfigError(f"--{path}: {model} has {unknown('field', name, known)}")
    if name == "dtype":
        try:
            return jnp.dtype(text).name
        except TypeError:
            raise ConfigError(f"--{path}: {text!r} is no dtype; bfloat16 is one") from None
    return _convert(text, hints[name], path)


def _convert(text: str, kind: Any, path: str) -> Any:
    """Reads `text` as a JSON value of type `kind`; brackets and quotes may be left out."""
    options = typing.get_args(kind) if _is_union(kind) else (kind,)
    if text.lower() in ("none", "null") and type(None) in options:
        return None
    candidates: list[Any] = [text]
    for json in (text, text.lower(), f"[{text.strip('()[]')}]"):
        try:
            candidates.append(msgspec.json.decode(json))
        except msgspec.DecodeError:
            continue
    candidates.append([part.strip() for part in text.strip("()[]").split(",")])
    for candidate in candidates:
        try:
            return msgspec.convert(candidate, kind)
        except msgspec.ValidationError:
            continue
    raise ConfigError(f"--{path}: {text!r} is not {describe_type(kind)}")


def _is_union(kind: Any) -> bool:
    """Whether a type is ``A | B``; if one of them is a `Literal`, Python makes it a `Union`."""
    return typing.get_origin(kind) in (types.UnionType, typing.Union)


def describe_type(kind: Any) -> str:
    """Describes the values of a type in words, such as "one of data, fsdp, pmap"."""
    args = typing.get_args(kind)
    if _is_union(kind):
        return " or ".join(describe_type(arg) for arg in args)
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, args))}"
    if typing.get_origin(kind) is tuple and Ellipsis in args:
        return f"values, as 1,2,...: each {describe_type(args[0])}"
    if typing.get_origin(kind) is tuple:
        return f"{len(args)} values, as 1,2: " + ", ".join(describe_type(arg) for arg in args)
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, "none" if kind is type(None) else str(kind))
