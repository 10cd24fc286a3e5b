"""Shows the fields of a recipe with their values, meaning and choices, for ``--help``."""

import dataclasses
import inspect
import json
import re
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
from rich.console import Console

import zoo
from train.config import Config, ModelConfig, describe_type, model_field_names
from zoo.registry import family_named
from zoo.weights.run import fields_to_json

_NOT_SET = ("recipe", "model.implied")  # a recipe and a run fill these in


def show_fields(console: Console, config: Config) -> None:
    """Prints each field as the argument that sets it to its value, and below what it means."""
    for path, value, text in described_fields(config):
        console.print(f"--{path}={value}", soft_wrap=True)
        shown = textwrap.fill(text, 92, initial_indent="    ", subsequent_indent="    ")
        if shown:
            console.print(shown, soft_wrap=True)


def described_fields(node: Any, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """The dotted name of each field, its value, and its meaning and choices in one text.

    Args:
        node: A `Config`, or a dataclass in it.
        prefix: The dotted name of `node`, with a dot at the end; empty for a `Config`.
    """
    meanings, hints = meanings_of(type(node)), typing.get_type_hints(type(node))
    for field in dataclasses.fields(node):
        value, path = getattr(node, field.name), f"{prefix}{field.name}"
        if isinstance(node, ModelConfig) and field.name == "fields":
            yield from _model_fields(node, prefix)
        elif dataclasses.is_dataclass(value):
            yield from described_fields(value, f"{path}.")
        elif path not in _NOT_SET:
            yield path, _shown(value), _text(meanings.get(field.name, ""), hints[field.name])


def _model_fields(node: ModelConfig, prefix: str) -> Iterator[tuple[str, str, str]]:
    """`described_fields` of a model: all that can be set, the model's own values included."""
    model, module = zoo.create(node.name, **node.fields), family_named(node.name).module
    meanings, hints = meanings_of(module), typing.get_type_hints(module)
    known = model_field_names(node.name)
    names = [field.name for field in dataclasses.fields(model) if field.name in known]
    for name, value in fields_to_json({name: getattr(model, name) for name in names}).items():
        kind = None if name == "dtype" else hints[name]
        yield f"{prefix}{name}", _shown(value), _text(meanings.get(name, ""), kind)


def meanings_of(kind: type) -> dict[str, str]:
    """What the fields of a class mean, from the section ``Attributes:`` of its docstring.

    Classes that it inherits from are searched for what its own docstring does not have.
    """
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("\nAttributes:\n")[2]
        section = re.split(r"\n(?=\S)", section)[0]
        for entry in re.split(r"\n(?=    \S)", f"\n{section}")[1:]:
            name, _, text = entry.partition(":")
            found[name.strip()] = " ".join(text.replace("`", "").split())
    return found


def _text(meaning: str, kind: Any) -> str:
    """A field's meaning, with the values of its type unless that is none of the simple ones."""
    choices = "" if kind is None else describe_type(kind)
    return meaning if not choices or "[" in choices or "<" in choices else f"{meaning} ({choices})"


def _shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(msgspec.to_builtins(value))
