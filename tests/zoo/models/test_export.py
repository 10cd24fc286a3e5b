"""Every family's nano model is exported for a batch of any size."""

import functools
import inspect
from typing import Any

import jax
import numpy as np
import pytest
from jax import export

from tests.zoo.models.drawn import shallow, speed_of
from zoo.registry import FAMILIES

NANO = [
    pytest.param(family, name, id=name, marks=speed_of(family))
    for family in FAMILIES
    for name in family.variants
    if "nano" in name.split("_")
]
BACKBONES = [param for param in NANO if param.values[0].is_backbone]
STREAMS = {"params": jax.random.key(0), "mask": jax.random.key(1)}


def abstract(family: Any, model: Any) -> tuple[Any, tuple]:
    """Shapes of the variables of a model, and of its inputs with the symbolic batch b."""
    inputs = family.example(model)
    variables = jax.eval_shape(model.init, STREAMS, *inputs)
    (b,) = export.symbolic_shape("b")
    batch = [jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype) for x in inputs]
    return variables, tuple(batch)


def draw(shapes: Any) -> Any:
    """Random variables of these shapes; all are positive, because variances must be."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.uniform(0.01, 0.1, x.shape).astype(x.dtype), shapes)


def batch_axes(outputs: Any) -> list[int]:
    """The number of axes of each output whose length is the batch b."""
    return [sum(str(side) == "b" for side in x.shape) for x in jax.tree.leaves(outputs)]


@pytest.mark.parametrize(("family", "name"), NANO)
def test_the_exported_call_gives_the_same_numbers(family, name):
    model = family.create(name, **shallow(name))
    shapes, batch = abstract(family, model)
    exported = export.export(jax.jit(model.apply))(shapes, *batch)
    assert set(batch_axes(exported.out_avals)) == {1}
    variables, inputs = draw(shapes), family.inputs(model, None, 3, jax.random.key(2))
    found = jax.tree.leaves(exported.call(variables, *inputs))
    expected = jax.tree.leaves(jax.jit(model.apply)(variables, *inputs))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("family", "name"), NANO)
def test_without_optional_inputs(family, name):
    model = family.create(name)
    shapes, batch = abstract(family, model)
    parameters = list(inspect.signature(family.module.__call__).parameters.values())[1:]
    needed = sum(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters)
    apply = jax.jit(functools.partial(model.apply, rngs={"mask": jax.random.key(1)}))
    exported = export.export(apply)(shapes, *batch[:needed])
    assert set(batch_axes(exported.out_avals)) == {1}


@pytest.mark.parametrize(("family", "name"), BACKBONES)
def test_feature_maps(family, name):
    model = family.create(name)
    shapes, batch = abstract(family, model)
    apply = functools.partial(model.apply, method="feature_maps")
    exported = export.export(jax.jit(apply))(shapes, batch[0])
    assert [str(x.shape[0]) for x in exported.out_avals] == ["b"] * len(model.feature_strides)
