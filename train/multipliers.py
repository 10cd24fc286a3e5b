"""Each parameter's share of the learning rate: by layers, and by patterns of names; 0 freezes."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from zoo.types import InputError

Layers = Sequence[Sequence[str]]
"""Beginnings of the parameters' paths in groups, from the input to the output: see
`zoo.family.Family.layers`."""


def layer_multipliers(params: PyTree, decay: float, layers: Layers) -> PyTree:
    """Each parameter's share of the learning rate: decay ** (number of layers above it).

    Parameters of no layer, such as the head and the last norm, have 1, the last layer `decay`, and
    the embeddings the smallest share, as in BEiT (arXiv 2106.08254) and MAE.
    """
    positions = {name: i for i, names in enumerate(layers) for name in names}

    def position(path: tuple[Any, ...], leaf: Any) -> Any:
        """Number of the layer, from 0; None of no layer.

        For scanned layers, which are one leaf, an array of the numbers of all of them.
        """
        names = [key.key for key in path]
        for count in range(1, len(names) + 1):
            start = "/".join(names[:count])
            if start in positions:
                return positions[start]
            if f"{start}_0" in positions:
                return np.array([positions[f"{start}_{i}"] for i in range(leaf.shape[0])])
        return None

    def multiplier(path: tuple[Any, ...], leaf: Any) -> Any:
        if (found := position(path, leaf)) is None:
            return 1.0
        share = decay ** (len(layers) - found)
        if np.ndim(share):
            return np.float32(share).reshape(-1, *[1] * (leaf.ndim - 1))
        return float(share)

    return jax.tree_util.tree_map_with_path(multiplier, params)


def path_multipliers(params: PyTree, multipliers: dict[str, float]) -> PyTree:
    """Each parameter's factor of the learning rate, by `OptimConfig.multipliers`.

    Raises:
        InputError: If a pattern is the first match of no parameter.
    """
    used = set()

    def multiplier(path: tuple[Any, ...], _: Any) -> float:
        names = [key.key for key in path]
        found = next((pattern for pattern in multipliers if _matches(pattern, names)), None)
        used.add(found)
        return 1.0 if found is None else multipliers[found]

    tree = jax.tree_util.tree_map_with_path(multiplier, params)
    if unused := [pattern for pattern in multipliers if pattern not in used]:
        raise InputError(
            f"optim.multipliers: {unused[0]!r} applies to no parameter: patterns match whole names,"
            f" as body or blocks_1*, and the first that matches counts; the model's names are"
            f" {', '.join(sorted(params))}"
        )
    return tree


def _matches(pattern: str, names: Sequence[str]) -> bool:
    """Whether each component of a pattern matches the name at the same place of a path."""
    parts = pattern.split("/") if pattern else []
    return len(parts) <= len(names) and all(map(fnmatchcase, names, parts))


def freeze(params: PyTree, multipliers: dict[str, float]) -> PyTree:
    """The parameters, without a gradient through those whose factor of the rate is 0."""
    return jax.tree.map(
        lambda x, factor: x if factor else jax.lax.stop_gradient(x),
        params,
        path_multipliers(params, multipliers),
    )
