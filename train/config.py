"""A run's settings: frozen dataclasses, and ``--field.sub=value`` overrides with checked types."""

import dataclasses
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import jax.numpy as jnp
import msgspec

from train.optim import OptimConfig
from train.tasks import Task
from zoo.registry import MODELS, unknown
from zoo.types import InputError

T = TypeVar("T")


class ConfigError(InputError):
    """A wrong recipe, field or value."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A model in the zoo's own terms: ``zoo.create(name, **fields)``."""

    name: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How many devices there are along each axis of the mesh; None is as many as are left.

    Attributes:
        data: Each has its own rows of the batch, and the same parameters.
        fsdp: Each has its own rows of the batch and, with ``parallel=fsdp``, its own part of the
            parameters; by default all devices then.
    """

    data: int | None = None
    fsdp: int | None = None

    def __post_init__(self) -> None:
        for name in ("data", "fsdp"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"mesh.{name} is {getattr(self, name)}, but must be at least 1")


@dataclasses.dataclass(frozen=True)
class DistributedConfig:
    """The processes that train together; what is None is found from the environment.

    Attributes:
        coordinator: HOST:PORT that all of them reach, on the host of process 0.
        processes: How many there are.
        process: Which one this is, from 0.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """What is traced.

    Attributes:
        steps: FIRST:LAST, the steps that ``DIR/profile`` shows; None for none.
    """

    steps: str | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and not self.span:
            raise ConfigError(f"profile.steps is {self.steps}, but must be FIRST:LAST, as 10:15")

    @property
    def span(self) -> range:
        """The numbers of the steps."""
        first, _, last = (self.steps or "").partition(":")
        return range(int(first), int(last) + 1) if (first + last).isdecimal() and last else range(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what a run computes.

    Attributes:
        recipe: Name of the recipe that it came from.
        model: What is trained.
        data: What it is trained and evaluated on: the frozen dataclass that `task` opens.
        task: How a batch becomes losses, and a model figures.
        optim: Optimiser and schedule.
        steps: Optimiser steps.
        batch_size: Examples of one step, over all devices and hosts.
        seed: Of initialisation, data order, augmentation and dropout.
        log_every: Steps between entries of metrics.jsonl.
        eval_every: Steps between evaluations; the last step is always evaluated.
        checkpoint_every: Steps between checkpoints; an evaluation also saves one.
        keep: Latest checkpoints that are kept, beside the best.
        init: A checkpoint whose parameters to start from, as for `zoo.load`.
        init_backbone: The same for the backbone alone, of a model that has one.
        accumulate: Parts that a batch is computed in, to fit a large one into memory.
        ema: Decay of the moving average of all variables that is evaluated; None for none.
        parallel: How a step is spread over devices: ``data``, the batch in equal parts; ``fsdp``,
            the state in equal parts too; ``pmap``, one replica a device.
        mesh: How many devices share the batch, and how many the state.
        distributed: The processes that train together.
        profile: Which steps are traced.
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
            raise ConfigError("init has the backbone too: give it or init_backbone, not both")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, but must be at least 0")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ConfigError(f"ema is {self.ema}, but must be in 0..1 and below 1, or none")


def to_json(config: Config) -> dict[str, Any]:
    """The configuration as JSON values."""
    return msgspec.to_builtins(config)


def override(config: T, arguments: Iterable[str]) -> T:
    """The configuration with every ``--field.sub=value`` of the command line applied, in order.

    ``--model.name=NAME`` comes first, wherever it stands: the recipe's fields of its own model stay
    as far as the other model has them.

    Args:
        config: A frozen dataclass, whose fields may be others.
        arguments: Those of the command line.

    Raises:
        ConfigError: For an unknown field or a value that the field does not take.
    """
    for argument in sorted(arguments, key=lambda text: not text.startswith("--model.name=")):
        path, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not equals:
            raise ConfigError(f"{argument!r} is not of the form --field=value or --field.sub=value")
        config = _replace(config, path.split("."), text, path)
    return config


def _replace(node: Any, parts: list[str], text: str, path: str) -> Any:
    """The dataclass `node` with the field at `parts` set to what `text` says."""
    name, *rest = parts
    if isinstance(node, ModelConfig) and name != "name" and not rest:
        return dataclasses.replace(
            node, fields={**node.fields, name: _model_field(node.name, name, text, path)}
        )
    fields = [field.name for field in dataclasses.fields(node)]
    if name not in fields or name == "recipe":
        raise ConfigError(f"--{path}: {unknown('field', name, set(fields) - {'recipe'})}")
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
        return ModelConfig(value, kept)
    return dataclasses.replace(node, **{name: value})


def model_field_names(model: str) -> set[str]:
    """The fields that a named model's module has."""
    fields = dataclasses.fields(MODELS[model].build.func)
    return {field.name for field in fields} - {"parent", "name"}


def _model_field(model: str, name: str, text: str, path: str) -> Any:
    """A field of a model's module; a dtype stays a name, so that it can be written as JSON."""
    hints = typing.get_type_hints(MODELS[model].build.func)
    known = model_field_names(model)
    if name not in known:
        raise ConfigError(f"--{path}: {model} has {unknown('field', name, known)}")
    if name == "dtype":
        try:
            return jnp.dtype(text).name
        except TypeError:
            raise ConfigError(f"--{path}: {text!r} is no dtype, such as bfloat16") from None
    return _convert(text, hints[name], path)


def _convert(text: str, kind: Any, path: str) -> Any:
    """The value of type `kind` that `text` writes, as JSON; brackets and quotes are optional."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
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
    raise ConfigError(f"--{path}: {text!r} is not {_describe(kind)}")


def _describe(kind: Any) -> str:
    """What values of a type look like, in words."""
    args = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return " or ".join(_describe(arg) for arg in args)
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, args))}"
    if typing.get_origin(kind) is tuple and Ellipsis in args:
        return f"values, as 1,2,...: each {_describe(args[0])}"
    if typing.get_origin(kind) is tuple:
        return f"{len(args)} values, as 1,2: " + ", ".join(_describe(arg) for arg in args)
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, "none" if kind is type(None) else str(kind))
