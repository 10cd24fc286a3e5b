"""Inputs and outputs of the models of all families, for tests."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from zoo.family import Family
from zoo.registry import FAMILIES, MODELS

# Fields for the number of layers, which are all alike.
LAYERS = ("num_layers", "num_encoder_layers", "num_decoder_layers", "decoder_num_layers")


def speed_of(family: Family) -> tuple[pytest.MarkDecorator, ...]:
    """The mark ``slow`` for a family whose module extends that of another one.

    And for one whose output is decoded as that of a family before it, or with an hourglass, which
    takes long to compile. What the two share is tested with the other one, what is new by the
    family's own tests.
    """
    others = (other.module for other in FAMILIES if other.module is not family.module)
    before = FAMILIES[: FAMILIES.index(family)]
    alike = family.decode and family.decode in [other.decode for other in before]
    alike = alike or "hourglass_fields" in family.field_names()
    return (pytest.mark.slow,) if alike or issubclass(family.module, tuple(others)) else ()


def speed_of_training(name: str) -> tuple[pytest.MarkDecorator, ...]:
    """`speed_of` the family, and the mark ``slow`` after the first three families of a task.

    Their losses and gradients are in the tests of the families themselves.
    """
    family = MODELS[name]
    alike = [other for other in FAMILIES if other.task == family.task]
    return speed_of(family) or ((pytest.mark.slow,) if alike.index(family) >= 3 else ())


def speed_of_shapes(name: str) -> tuple[pytest.MarkDecorator, ...]:
    """The mark ``slow`` for the shapes of a model after the first six of a family.

    Not if all layers are alike, since such a model is traced in little time.
    """
    family = MODELS[name]
    late = list(family.variants).index(name) >= 6
    alike = not family.field_names().isdisjoint(LAYERS)
    return (pytest.mark.slow,) if late and not alike else ()


def shallow(name: str) -> dict[str, int]:
    """Fields that give a model one layer of each kind, so that it compiles in less time."""
    return {field: 1 for field in LAYERS if field in MODELS[name].field_names()}


def drawn_inputs(name: str, model: Any, count: int) -> tuple:
    """Inputs of a model: `count` random examples of the size that the variant `name` expects."""
    how = MODELS[name].variants[name].preprocessing
    return MODELS[name].inputs(model, how and how.size, count, jax.random.key(5))


def abstract_inputs(name: str, model: Any, count: int) -> tuple:
    """The shapes and dtypes of `drawn_inputs`, without computing values."""
    return jax.eval_shape(lambda: drawn_inputs(name, model, count))


def float_outputs(outputs: Any, without: Collection[str] = ()) -> list[jax.Array]:
    """The floating-point arrays in the output of a model, which may have any structure.

    Empty arrays, such as the outputs of all decoder layers but the last if there is one, are not
    among them, nor are the fields of the output that are named in `without`.
    """
    if without:
        outputs = outputs.replace(**dict.fromkeys(without))
    leaves = jax.tree.leaves(outputs)
    return [leaf for leaf in leaves if leaf.size and jnp.issubdtype(leaf.dtype, jnp.floating)]
