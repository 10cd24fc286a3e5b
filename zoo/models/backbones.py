"""Backbones by name, for the models that stand on one."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike

from zoo.models import resnet, vit
from zoo.types import InputError

BACKBONES = {**resnet.VARIANTS, **vit.VARIANTS}


def make_backbone(name: str, fields: Mapping[str, Any], dtype: DTypeLike) -> nn.Module:
    """A registered ResNet or ViT without its head; `fields` are other ones than that name's.

    Raises:
        InputError: If there is no such backbone, or it has no such field.
    """
    if name not in BACKBONES:
        raise InputError(f"no backbone {name!r}; there are {', '.join(sorted(BACKBONES))}")
    try:
        return BACKBONES[name].build(**{"num_classes": 0, "dtype": dtype, **fields})
    except TypeError as error:
        raise InputError(f"backbone {name}: {error}") from error


def freeze_fields(fields: Mapping[str, Any]) -> FrozenDict:
    """Fields, perhaps from JSON, as those of a module have to be: hashable."""
    return FrozenDict(
        {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    )
