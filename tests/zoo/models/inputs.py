"""What the models of each family are called with, and how their outputs are told apart."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import zoo


def images(name: str, model: Any, count: int) -> tuple:
    """Drawn images of the size that the model is for."""
    return (jax.random.normal(jax.random.key(5), (count, *zoo.preprocessing(name).size, 3)),)


# (registered name, model, count) -> positional arguments for `count` examples, by module class.
INPUTS: dict[str, Callable[[str, Any, int], tuple]] = {
    "BackboneUNet": images,
    "MlpMixer": images,
    "ResNet": images,
    "UNet": images,
    "ViT": images,
}


def model_inputs(name: str, model: Any, count: int) -> tuple:
    """Positional arguments of a model for `count` examples; every array has a leading axis b."""
    return INPUTS[type(model).__name__](name, model, count)


def abstract_inputs(name: str, model: Any, count: int) -> tuple:
    """The shapes and dtypes of `model_inputs`, without making them."""
    return jax.eval_shape(lambda: model_inputs(name, model, count))


def float_outputs(outputs: Any) -> list[jax.Array]:
    """The floating-point arrays of a model's output, whatever its structure."""
    leaves = jax.tree.leaves(outputs)
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
