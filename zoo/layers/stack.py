"""Runs many equal layers one after the other: in a loop, or with `nn.scan`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

Call = Callable[..., Any]


def run_layers(
    layers: Sequence[nn.Module] | nn.Module,
    call: Call,
    x: Any,
    drop_path: Sequence[float],
    *shared: Any,
    remat: bool = False,
    every: bool = False,
) -> Any:
    """The output of the last layer, or of every layer.

    Args:
        layers: A sequence of layers, which run in a loop; or a single layer, which is scanned: it
            is compiled once, and its parameters have a leading axis that counts the layers. Both
            compute the same, except for random numbers such as those of dropout.
        call: (layer, x, rate of drop path, *shared) -> x. The rate is None in a loop, where each
            layer has its own as a field.
        x: Input of the first layer.
        drop_path: Rate of drop path of each layer.
        *shared: Further arguments of `call`, the same for all layers: arrays, or None.
        remat: Whether a layer's inner activations are computed again in the backward pass, instead
            of kept (arXiv 1604.06174).
        every: Whether to return the outputs of all layers, stacked along a leading axis.
    """
    if not isinstance(layers, nn.Module):
        call, outputs = nn.remat(call) if remat else call, []
        for layer in layers:
            x = call(layer, x, None, *shared)
            if every:
                outputs.append(x)
        return jnp.stack(outputs) if every else x
    call = nn.remat(call, prevent_cse=False) if remat else call  # needless in a scan

    def body(layer: nn.Module, x: Any, rate: Float[Array, ""] | None, *shared: Any) -> tuple:
        x = call(layer, x, rate, *shared)
        return x, x if every else None

    rates = jnp.asarray(drop_path, jnp.float32) if any(drop_path) else None
    in_axes: Any = (0, *[nn.broadcast] * len(shared))
    scan = nn.scan(
        body,
        # In the cache the examples stay the first axis, and the layers are the second.
        variable_axes={"params": 0, "intermediates": 0, "cache": 1, "memory": 1},
        split_rngs={"params": True, "dropout": True},
        in_axes=in_axes,
        length=len(drop_path),
    )
    last, outputs = scan(layers, x, rates, *shared)
    return outputs if every else last


def drop_path_rates(last: float, num_layers: int) -> tuple[float, ...]:
    """Rates that rise linearly from 0 in the first layer to `last` (arXiv 1603.09382)."""
    return tuple(last * i / max(num_layers - 1, 1) for i in range(num_layers))


def with_fields(model: nn.Module, **fields: object) -> nn.Module:
    """The model with new values for those of the fields that it, or one of its parts, has."""
    changed = {}
    for name in model.__dataclass_fields__:
        value = getattr(model, name)
        if name in fields:
            changed[name] = fields[name]
        elif isinstance(value, nn.Module) and name != "parent":
            changed[name] = with_fields(value, **fields)
    return model.clone(**changed) if changed else model


def is_scanned(model: nn.Module) -> bool:
    """Whether the layers of a model, or of one of its parts, are scanned."""
    parts = [getattr(model, name) for name in model.__dataclass_fields__ if name != "parent"]
    return bool(getattr(model, "scan_layers", False)) or any(
        is_scanned(part) for part in parts if isinstance(part, nn.Module)
    )


def stacked_names(scanned: Sequence[str], unrolled: Sequence[str]) -> dict[str, list[str]]:
    """For each stacked leaf of a scanned model, the leaves of the same model with a loop, in order.

    >>> stacked_names(["blocks/bias"], ["blocks_0/bias", "blocks_1/bias"])
    {'blocks/bias': ['blocks_0/bias', 'blocks_1/bias']}
    """
    known, stacked = set(unrolled), {}
    for name in set(scanned) - known:
        parts = name.split("/")
        for i in range(len(parts)):
            numbered = "/".join([*parts[:i], f"{parts[i]}_{{}}", *parts[i + 1 :]])
            count = 0
            while numbered.format(count) in known:
                count += 1
            if count:
                stacked[name] = [numbered.format(n) for n in range(count)]
    return stacked
