"""A model's variables as a flat dict of paths, collection first."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict


def flatten(variables: Mapping) -> dict[str, Any]:
    """``{"params": {"head": {"bias": b}}}`` to ``{"params/head/bias": b}``."""
    return flatten_dict(variables, sep="/")


def unflatten(leaves: Mapping[str, Any]) -> dict:
    """The inverse of `flatten`."""
    return unflatten_dict(dict(leaves), sep="/")


def example_images(model: nn.Module) -> jax.ShapeDtypeStruct:
    """One image that the model can be initialised with, as a shape."""
    size = getattr(model, "image_size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    return jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)


def abstract_leaves(model: nn.Module) -> dict[str, Any]:
    """Shapes and dtypes of a model's variables; nothing is computed."""
    return flatten(jax.eval_shape(model.init, jax.random.key(0), example_images(model)))
