"""What the models of each family are called with, and how their outputs are told apart."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import zoo
from zoo.ops.masks import random_visible
from zoo.ops.patches import grid_size


def images(name: str, model: Any, count: int) -> tuple:
    """Drawn images of the size that the model is for."""
    return (jax.random.normal(jax.random.key(5), (count, *zoo.preprocessing(name).size, 3)),)


def padded_images(name: str, model: Any, count: int) -> tuple:
    """Drawn images of different sizes, and the pixels of the batch that are theirs."""
    (batch,) = images(name, model, count)
    _, height, width, _ = batch.shape
    rows, columns = (size - size // 8 * (jnp.arange(count) % 4) for size in (height, width))
    inside = jnp.arange(height)[:, None] < rows[:, None, None]
    return batch, inside & (jnp.arange(width) < columns[::-1, None, None])


def partly_visible(name: str, model: Any, count: int) -> tuple:
    """Drawn images, and a mask for each with as many visible patches as the model has."""
    (x,) = images(name, model, count)
    n = math.prod(grid_size(x.shape[1:3], model.patch_size))
    keys = jax.random.split(jax.random.key(6), count)
    return x, jax.vmap(lambda key: random_visible(key, n, model.num_visible(n)))(keys)


def texts(name: str, model: Any, count: int) -> tuple:
    """Drawn tokens of sources and targets, and which are valid: of one example two fewer."""
    keys = jax.random.split(jax.random.key(5))
    sources = jax.random.randint(keys[0], (count, 9), 1, model.vocab_size)
    targets = jax.random.randint(keys[1], (count, 7), 1, model.vocab_size)
    fewer = 2 * (jnp.arange(count) == 1)[:, None]
    return sources, targets, jnp.arange(9) < 9 - fewer, jnp.arange(7) < 7 - fewer


# (registered name, model, count) -> positional arguments for `count` examples, by module class.
INPUTS: dict[str, Callable[[str, Any, int], tuple]] = {
    "BackboneUNet": images,
    "Detr": padded_images,
    "MAE": partly_visible,
    "MlpMixer": images,
    "ResNet": images,
    "Transformer": texts,
    "UNet": images,
    "ViT": images,
}


# Parameters that cannot learn, by module class. DETR's decoder starts with zeros, which the scale
# of the first norm multiplies.
WITHOUT_GRADIENT: dict[str, list[str]] = {
    "Detr": ["['params']['decoder_0']['norm1']['scale']"],
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
