"""A model's variables as a flat dict of paths, collection first."""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from functools import partial
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


def abstract_leaves(model: nn.Module, inputs: tuple) -> dict[str, Any]:
    """Shapes and dtypes of a model's variables; nothing is computed.

    `inputs` are the shapes of inputs for initialisation: see `zoo.family.Family.example`.

    If submodules differ only in their names and get inputs of equal shapes, only the first is
    traced, so that a deep model takes hardly longer than one of its blocks.
    """
    traced: dict[Hashable, tuple[str, Any]] = {}
    copies: list[tuple[str, str]] = []

    def trace_once(run: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        if context.method_name != "__call__" or not context.module.path:
            return run(*args, **kwargs)
        module, path = context.module, "/".join(context.module.path)
        values = (getattr(module, f.name) for f in dataclasses.fields(module))
        fields = tuple(v for v in values if v is not module.name and v is not module.parent)
        key = (type(module), fields, repr(jax.tree.map(_shape, (args, kwargs))))
        if key in traced and traced[key][0] != path:  # a scan traces its body more than once
            first, outputs = traced[key]
            copies.append((first, path))
            return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), outputs)
        outputs = run(*args, **kwargs)
        traced[key] = path, jax.tree.map(_shape, outputs)
        return outputs

    with nn.intercept_methods(trace_once):
        init = partial(model.init, jax.random.key(0))
        leaves = flatten(jax.eval_shape(init, *inputs))
    for first, path in copies:
        for name, leaf in list(leaves.items()):
            collection, _, rest = name.partition("/")
            if rest.startswith(f"{first}/"):
                leaves[f"{collection}/{path}{rest.removeprefix(first)}"] = leaf
    return leaves


def _shape(x: Any) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, jax.Array) else x
