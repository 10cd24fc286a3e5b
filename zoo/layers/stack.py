"""Many equal layers, one after the other: as a loop, or scanned."""

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
    """What comes out of the last layer.

    Args:
        layers: The layers; or a single one that stands for all of them: it is compiled once, and
            its parameters get a leading axis of layers. Both compute the same but for what is
            drawn, dropout and the like.
        call: (layer, x, rate of drop path, *shared) -> x; the rate is None where the layer has its
            own.
        x: What goes into the first layer.
        drop_path: Rate of each layer.
        *shared: Arrays that all layers are given, or None.
        remat: Whether a layer's inner activations are computed again in the backward pass, instead
            of kept (arXiv 1604.06174).
        every: Whether to return what comes out of every layer, stacked along a leading axis.
    """
    if not isinstance(layers, nn.Module):
        call, outputs = nn.remat(call) if remat else call, []
        for layer in layers:
            x = call(layer, x, None, *shared)
            if every:
                outputs.append(x)
        return jnp.stack(outputs) if every else x
    call = nn.remat(call, prevent_cse=False) if remat else call  # a scan has nothing to share

    def body(layer: nn.Module, x: Any, rate: Float[Array, ""] | None, *shared: Any) -> tuple:
        x = call(layer, x, rate, *shared)
        return x, x if every else None

    rates = jnp.asarray(drop_path, jnp.float32) if any(drop_path) else None
    in_axes: Any = (0, *[nn.broadcast] * len(shared))
    scan = nn.scan(
        body,
        # What is kept of decoded tokens still has the examples first.
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
    """The model with other values of those of the fields that it has, or its parts have."""
    changed = {}
    for name in model.__dataclass_fields__:
        value = getattr(model, name)
        if name in fields:
            changed[name] = fields[name]
        elif isinstance(value, nn.Module) and name != "parent":
            changed[name] = with_fields(value, **fields)
    return model.clone(**changed) if changed else model


def is_scanned(model: nn.Module) -> bool:
    """Whether the layers of a model, or of a part of it, are scanned."""
    parts = [getattr(model, name) for name in model.__dataclass_fields__ if name != "parent"]
    return bool(getattr(model, "scan_layers", False)) or any(
        is_scanned(part) for part in parts if isinstance(part, nn.Module)
    )


def stacked_names(scanned: Sequence[str], unrolled: Sequence[str]) -> dict[str, list[str]]:
    """For each stacked leaf of a scanned model the leaves of the same model as a loop, in order.

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
