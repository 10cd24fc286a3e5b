"""A model's variables from a checkpoint, and back to a file."""

import dataclasses
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from safetensors.numpy import save_file

from zoo.layers.stack import is_scanned, stacked_names, with_fields
from zoo.types import InputError
from zoo.weights.convert import LoadReport, convert
from zoo.weights.files import Checkpoint, open_checkpoint
from zoo.weights.maps import plan
from zoo.weights.sources import best_map, name_maps
from zoo.weights.tree import abstract_leaves, example_inputs, flatten, unflatten

# The entry of a file's metadata with the rows and columns of its positions, as 14x14: other
# layouts hold them flat.
GRID = "jax-vision-zoo.grid"


def load_variables(
    model: nn.Module,
    checkpoint: Checkpoint,
    source: str | None = None,
    *,
    new_head: bool = False,
    dtype: DTypeLike | None = jnp.float32,
) -> tuple[dict[str, Any], LoadReport]:
    """Fills a model's variables from a checkpoint.

    Args:
        model: Whose variables; its fields decide what is read, never the file.
        checkpoint: Where from.
        source: Whose names the file has; found out if absent.
        new_head: Whether the caller asked for a number of classes: a head of another number in the
            file is then left out, and ours initialised with ``jax.random.key(0)``.
        dtype: Of floating-point variables; None keeps the file's.

    Raises:
        InputError: If a leaf of the model or a tensor of the file stays unexplained, naming the
            first ones of both sides; or if the source is unknown.
    """
    with ThreadPoolExecutor() as pool:
        place = partial(pool.submit, _to_device, dtype)
        futures, report = _convert(model, checkpoint, source, new_head=new_head, place=place)
        flat = {path: future.result() for path, future in futures.items()}
    if report.problems:
        raise InputError(report.error())
    if report.reinitialised:
        flat |= _initialise(with_fields(model, scan_layers=False), set(report.reinitialised))
    if is_scanned(model):
        for name, parts in _stacked(model).items():
            flat[name] = jnp.stack([flat.pop(part) for part in parts])
    return unflatten(flat), report


def load_report(
    model: nn.Module, path: str | Path, source: str | None = None, *, new_head: bool = False
) -> LoadReport:
    """What loading a checkpoint into a model would do; never an error for names that differ.

    Args:
        model: The model.
        path: The checkpoint.
        source: Whose names the file has; found out if absent.
        new_head: Whether a head of another number of classes is to be initialised anew.

    Raises:
        InputError: If the file cannot be read, or the source is unknown.
    """
    return _convert(model, open_checkpoint(path), source, new_head=new_head)[1]


def _stacked(model: nn.Module) -> dict[str, list[str]]:
    """The leaves that a model has with scanned layers alone: see `stacked_names`."""
    scanned, unrolled = (abstract_leaves(with_fields(model, scan_layers=s)) for s in (True, False))
    return stacked_names(list(scanned), list(unrolled))


def _inside(name: str) -> str:
    """The name of a leaf where its model is an encoder."""
    collection, _, rest = name.partition("/")
    return f"{collection}/encoder/{rest}"


def _unstack(leaves: Mapping[str, Any], stacked: Mapping[str, list[str]]) -> dict[str, Any]:
    """Leaves by the names that they have without scanned layers.

    Raises:
        InputError: If a leaf is of another number of layers.
    """
    flat = dict(leaves)
    for name in stacked.keys() & leaves.keys():
        array = flat.pop(name)
        if len(array) != len(stacked[name]):
            raise InputError(f"{name} is of {len(array)} layers, not of {len(stacked[name])}")
        flat |= {part: array[i] for i, part in enumerate(stacked[name])}
    return flat


def _convert(
    model: nn.Module, checkpoint: Checkpoint, source: str | None, **options: Any
) -> tuple[dict[str, Any], LoadReport]:
    """By the names that the model has without scanned layers, as all sources but a run have."""
    if checkpoint.description and checkpoint.description.fields.get("scan_layers"):
        stacked = _stacked(model)
        # The file may be of a larger model, of which this one is the encoder: see `own`.
        stacked |= {_inside(name): [*map(_inside, parts)] for name, parts in stacked.items()}
        tensors = _unstack(checkpoint, stacked)
        readers = {name: partial(np.asarray, array) for name, array in tensors.items()}
        checkpoint = dataclasses.replace(checkpoint, readers=readers)
    model = with_fields(model, scan_layers=False)
    leaves = abstract_leaves(model)
    name_map = best_map(model, leaves, set(checkpoint), source)
    grid = _grid(checkpoint)
    return convert(str(checkpoint.path), model, name_map, leaves, checkpoint, grid=grid, **options)


def _grid(checkpoint: Checkpoint) -> tuple[int, int] | None:
    """Rows and columns of the positions in a file that `save_variables` wrote."""
    text = checkpoint.metadata.get(GRID, "")
    rows, _, columns = text.partition("x")
    return (int(rows), int(columns)) if rows.isdecimal() and columns.isdecimal() else None


def _to_device(dtype: DTypeLike | None, array: np.ndarray) -> jax.Array:
    """A copy on the device: the file may change once it is read."""
    if dtype is not None and jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(dtype, copy=False)
    # jax may share a contiguous array's memory; for any other it makes its own copy, faster than
    # numpy does.
    array = array.copy() if array.flags.c_contiguous else array
    return jax.block_until_ready(jax.device_put(array))


def _initialise(model: nn.Module, paths: set[str]) -> dict[str, jax.Array]:
    """Some leaves as `init` makes them; the compiler leaves out all the others."""

    @jax.jit
    def some() -> dict[str, jax.Array]:
        inputs = [jnp.zeros(x.shape, x.dtype) for x in example_inputs(model)]
        leaves = flatten(model.init(jax.random.key(0), *inputs))
        return {path: leaves[path] for path in paths}

    return some()


def save_variables(
    model: nn.Module,
    variables: Mapping[str, Any],
    path: str | Path,
    source: str,
    metadata: Mapping[str, str],
) -> None:
    """Writes a safetensors file in a source's names and layouts; the file appears complete.

    Raises:
        InputError: If the source is unknown or has no name for some leaf.
    """
    flat = {name: np.asarray(leaf) for name, leaf in flatten(variables).items()}
    if is_scanned(model):
        flat, model = _unstack(flat, _stacked(model)), with_fields(model, scan_layers=False)
    name_map = name_maps(model, source)[0]
    try:
        steps = plan(name_map.rules(model), flat)
    except ValueError as error:
        raise InputError(f"{source} cannot hold this {type(model).__name__}: {error}") from error
    metadata = dict(metadata)
    positions = (leaf for name, leaf in flat.items() if name.endswith("/pos_embed"))
    if (table := next(positions, None)) is not None:
        metadata[GRID] = f"{table.shape[0]}x{table.shape[1]}"
    tensors = {
        step.theirs: np.ascontiguousarray(step.layout.write(*(flat[name] for name in step.ours)))
        for step in steps
    }
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch()
        mode = part.stat().st_mode  # save_file makes a file for its owner alone
        save_file(tensors, part, metadata=metadata)
        part.chmod(mode)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
