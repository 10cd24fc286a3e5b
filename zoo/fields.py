"""Checks the values of a model's fields by their names and types, before the model is made."""

import dataclasses
import math
import types
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin

import jax.numpy as jnp

from zoo.ops.patches import grid_size
from zoo.types import InputError, check_choice

_RATES = ("dropout", "drop_path", "attention_dropout", "mask_ratio")
_POSITIVE = ("temperature",)
_NOT_NEGATIVE = ("norm_epsilon",)
_AT_LEAST_1 = ("dim", "dims", "size", "heads", "queries", "depth", "groups")  # names' last words


def check_fields(name: str, module: type, fields: Mapping[str, Any]) -> None:
    """Checks the values that a module's fields will have.

    Args:
        name: The model's name, for the error.
        module: The module's class, a dataclass.
        fields: Values of some fields; the others have their defaults.

    Raises:
        InputError: If a value has the wrong type, is out of its range, or does not go with another.
    """
    values = {}
    for field in dataclasses.fields(module):
        value = values[field.name] = fields.get(field.name, field.default)
        try:
            if get_origin(field.type) is Literal:
                check_choice(field.name, value, field.type)
            elif not _fits(field.name, field.type, value):
                raise ValueError(
                    f"{field.name} is {value!r}, but must be {_allowed(field.name, field.type)}"
                )
        except ValueError as error:
            raise InputError(f"{name}: {error}") from error
    try:
        _check_together(values)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error


def _is_dtype(value: Any) -> bool:
    try:
        return jnp.issubdtype(jnp.dtype(value), jnp.floating)
    except TypeError:
        return False


def _check_together(values: Mapping[str, Any]) -> None:
    """Raises ValueError if patches do not divide the image, or heads the features."""
    if "image_size" in values and "patch_size" in values:
        grid_size(values["image_size"], values["patch_size"])
    for field, heads in values.items():
        dim = values.get(field.replace("num_heads", "hidden_dim"))
        if field.endswith("num_heads") and dim is not None and dim % heads:
            raise ValueError(f"{field} is {heads}: {dim} features do not divide into {heads} heads")


def _fits(field: str, kind: Any, value: Any) -> bool:
    """Whether a value has a field's type, and is in the range that the field's name implies."""
    if field == "dtype":
        return _is_dtype(value)
    if isinstance(kind, types.UnionType):
        return any(_fits(field, part, value) for part in get_args(kind))
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        of_length = isinstance(value, tuple) and (... in parts or len(value) == len(parts))
        return of_length and all(_fits(field, parts[0], part) for part in value)
    if kind is types.NoneType:
        return value is None
    if kind in (bool, str):
        return isinstance(value, kind)
    if kind is int:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        return whole and int(value) >= _least(field)
    if kind is float:
        number = isinstance(value, Real) and not isinstance(value, bool)
        return number and math.isfinite(value) and _in_range(field, value)
    return True


def _least(field: str) -> float:
    if field.rpartition("_")[2] in _AT_LEAST_1:
        return 1
    return 0 if field.startswith("num_") or "_num_" in field else -math.inf


def _in_range(field: str, value: Any) -> bool:
    if field in _RATES:
        return 0 <= value < 1
    if field in _NOT_NEGATIVE:
        return value >= 0
    return value > 0 or field not in _POSITIVE


def _allowed(field: str, kind: Any) -> str:
    """The values that `_fits` accepts, in words."""
    if field == "dtype":
        return "a dtype of floating-point numbers, such as bfloat16"
    if isinstance(kind, types.UnionType):
        return " or ".join(_allowed(field, part) for part in get_args(kind))
    least = f" of at least {_least(field)}" if math.isfinite(_least(field)) else ""
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if parts[0] is str:
            return "a tuple of strings"
        return f"a tuple of {'' if ... in parts else f'{len(parts)} '}whole numbers{least}"
    if kind is int:
        return f"a whole number{least}"
    if kind is float:
        limits: dict[str, str] = dict.fromkeys(_RATES, " in 0..1 and below 1")
        limits |= dict.fromkeys(_POSITIVE, " above 0")
        limits |= dict.fromkeys(_NOT_NEGATIVE, " of at least 0")
        return f"a number{limits.get(field, '')}"
    return {bool: "True or False", str: "a string"}.get(kind, "None")
