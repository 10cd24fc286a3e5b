"""Backbones by name, for models that are built on one: any family with `feature_maps`.

The registry imports every family, and families import this module. So this module imports the
registry only when one of its functions is called.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike

from zoo.family import Family, NameMap, Rule
from zoo.fields import check_fields
from zoo.types import InputError
from zoo.weights.maps import within


def _registry() -> Any:
    return importlib.import_module("zoo.registry")


def make_backbone(name: str, fields: Mapping[str, Any], dtype: DTypeLike) -> nn.Module:
    """Creates a registered backbone without its head; `fields` replace the fields of that name.

    Raises:
        InputError: If there is no such backbone, or it has no such field.
    """
    backbones: dict[str, Family] = _registry().BACKBONES
    if name not in backbones:
        raise InputError(f"no backbone {name!r}; there are {', '.join(sorted(backbones))}")
    family = backbones[name]
    given: dict[str, Any] = {"dtype": dtype}
    if "num_classes" in family.field_names():
        given["num_classes"] = 0
    try:
        values = {**family.variants[name].fields, **given, **fields}
        check_fields(name, family.module, values)
        return family.module(**values)
    except TypeError as error:
        raise InputError(f"backbone {name}: {error}") from error


def make_frozen_backbone(
    name: str, fields: Mapping[str, Any], dtype: DTypeLike, norm_epsilon: float | None = None
) -> nn.Module:
    """Like `make_backbone`; batch normalisation is ``frozen`` unless `fields` have a ``norm``.

    Detectors train with few images a device, too few for statistics.

    Args:
        name: Name of the backbone.
        fields: Fields that replace those of that name.
        dtype: Dtype of the computation.
        norm_epsilon: Added to the variance in norms, unless `fields` have it; None: as it has it.

    Raises:
        InputError: If there is no such backbone, or it has no such field.
    """
    if norm_epsilon is not None:
        fields = {"norm_epsilon": norm_epsilon, **fields}
    body = make_backbone(name, fields, dtype)
    if getattr(body, "norm", None) == "batch" and "norm" not in fields:
        return body.clone(norm="frozen")
    return body


def backbone_map(body: nn.Module, source: str) -> NameMap | None:
    """A source's name map for a bare backbone; None if the source has no such model."""
    maps = _registry().family_of(body).names
    bare = (name_map for name_map in maps if not name_map.wrapped)
    return next((name_map for name_map in bare if name_map.source == source), None)


def backbone_rules(
    body: nn.Module, source: str, theirs: str, ours: str = "body"
) -> tuple[Rule, ...]:
    """The rules of a backbone that is a submodule; none if the source has no such backbone.

    Args:
        body: The backbone, without its head.
        source: The project whose names these are: a source of the backbone's family.
        theirs: What precedes the backbone's names in a file of the larger model, such as
            ``backbone.body.`` (torchvision), ``backbone.bottom_up.`` (detectron2's FPN) or
            ``backbone.`` (mmdet).
        ours: Path of the submodule in our model.
    """
    name_map = backbone_map(body, source)
    return within(name_map.rules(body), theirs, ours) if name_map else ()


def backbone_layers(body: nn.Module) -> tuple[tuple[str, ...], ...]:
    """The layers of a backbone that is the submodule ``body``: see `zoo.family.Family.layers`."""
    layers = _registry().family_of(body).layers
    groups = layers(body) if layers else ()
    return tuple(tuple(f"body/{name}" for name in names) for names in groups)


def freeze_mappings(module: nn.Module) -> None:
    """Makes a module's fields that are mappings hashable; for its `__post_init__`."""
    for name, value in vars(module).copy().items():
        if isinstance(value, Mapping):
            object.__setattr__(module, name, freeze_fields(value))


def freeze_fields(fields: Mapping[str, Any]) -> FrozenDict:
    """Makes fields hashable, as a module's fields must be; they may come from JSON."""
    return FrozenDict({name: _frozen(value) for name, value in fields.items()})


def _frozen(value: Any) -> Any:
    """A list as a tuple, lists in it as well."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(part) for part in value)
    return value
