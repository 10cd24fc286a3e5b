"""Loads a model's variables from a checkpoint, and writes them to a file."""

import dataclasses
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from safetensors import SafetensorError
from safetensors.numpy import save_file

from zoo.family import Family, NameMap
from zoo.layers.stack import is_scanned, stacked_names, with_fields
from zoo.types import InputError
from zoo.weights.choose import Fit, best_map, name_maps
from zoo.weights.convert import LoadReport, convert
from zoo.weights.darknet_file import SOURCE, TENSOR, write_darknet
from zoo.weights.files import Checkpoint
from zoo.weights.maps import plan
from zoo.weights.tree import abstract_leaves, flatten, unflatten
from zoo.weights.wrappers import split_names
from zoo.writing import WriteError

# Key of the metadata entry with the rows and columns of the positions, such as 14x14: the layouts
# of other sources store positions without rows and columns.
GRID = "jax-vision-zoo.grid"


def load_variables(
    family: Family,
    model: nn.Module,
    checkpoint: Checkpoint,
    source: str | None = None,
    *,
    new_head: bool = False,
    dtype: DTypeLike | None = jnp.float32,
) -> tuple[dict[str, Any], LoadReport]:
    """Fills a model's variables from a checkpoint.

    Args:
        family: The model's family.
        model: The model; its fields, not the file, decide which variables are read.
        checkpoint: The open checkpoint.
        source: The project whose tensor names the file has; detected if absent.
        new_head: Whether the caller gave a number of classes. If the file's head has another
            number, the model's head is initialised with ``jax.random.key(0)`` instead.
        dtype: Dtype of floating-point variables; None keeps the dtypes of the file.

    Raises:
        InputError: If a leaf of the model or a tensor of the file stays unexplained (the message
            names the first ones of both sides), or if the source is unknown.
    """
    with ThreadPoolExecutor() as pool:
        place = partial(pool.submit, _to_device, dtype)
        futures, report = report_of(
            family, model, checkpoint, source, new_head=new_head, place=place
        )
        flat = {path: future.result() for path, future in futures.items()}
    if report.problems:
        raise InputError(report.error() + _about_head(family, report))
    if report.reinitialised:
        plain = with_fields(model, scan_layers=False)
        flat |= _initialise(family, plain, set(report.reinitialised))
    if is_scanned(model):
        for name, parts in _stacked(family, model).items():
            flat[name] = jnp.stack([flat.pop(part) for part in parts])
    return unflatten(flat), report


def _about_head(family: Family, report: LoadReport) -> str:
    """What to do if a file fits except for the head; empty if it differs in more."""
    differing = [*report.missing, *report.mismatched]
    if report.unexpected or not all(path.startswith(family.head) for path in differing):
        return ""
    if report.missing:
        return "; only the head is missing: num_classes=N makes a new head of N classes"
    return "; only the head differs: give num_classes=N, the file's number or that of a new head"


def _stacked(family: Family, model: nn.Module) -> dict[str, list[str]]:
    """The leaves that exist only with scanned layers, and their parts: see `stacked_names`."""
    scanned, unrolled = (
        abstract_leaves(with_fields(model, scan_layers=s), family.example(model))
        for s in (True, False)
    )
    return stacked_names(list(scanned), list(unrolled))


def _inside(name: str) -> str:
    """The name of a leaf if its model is the submodule ``encoder`` of another model."""
    collection, _, rest = name.partition("/")
    return f"{collection}/encoder/{rest}"


def _unstack(leaves: Mapping[str, Any], stacked: Mapping[str, list[str]]) -> dict[str, Any]:
    """Splits the leaves of scanned layers into one leaf per layer.

    Raises:
        InputError: If a leaf has another number of layers than the model.
    """
    flat = dict(leaves)
    for name in stacked.keys() & leaves.keys():
        array = flat.pop(name)
        if len(array) != len(stacked[name]):
            raise InputError(f"{name} has {len(array)} layers, not {len(stacked[name])}")
        flat |= {part: array[i] for i, part in enumerate(stacked[name])}
    return flat


def report_of(
    family: Family, model: nn.Module, checkpoint: Checkpoint, source: str | None, **options: Any
) -> tuple[dict[str, Any], LoadReport]:
    """The leaves that a checkpoint fills and the report, as `convert` returns them.

    The leaves have the names of a model without scanned layers, as in all sources except runs.
    """
    fit, model, leaves, checkpoint = _matched(family, model, checkpoint, source)
    tensors, beside = _without_prefix(checkpoint, fit)
    flat, report = convert(
        str(checkpoint.path),
        family,
        model,
        fit.name_map,
        leaves,
        tensors,
        grid=_grid(checkpoint),
        **options,
    )
    why = f"beside the model, whose names begin with {fit.prefix!r}"
    return flat, dataclasses.replace(
        report, dropped={**report.dropped, **dict.fromkeys(beside, why)}
    )


def _without_prefix(checkpoint: Checkpoint, fit: Fit) -> tuple[Checkpoint, list[str]]:
    """The tensors by their names without the model's prefix, and the names of those beside it."""
    if not fit.prefix:
        return checkpoint, []
    inside, outside = split_names(checkpoint, fit.prefix)
    used = (outside - inside) & fit.theirs  # a head beside a backbone
    readers = {name: checkpoint.readers[fit.prefix + name] for name in inside}
    readers |= {name: checkpoint.readers[name] for name in used}
    return dataclasses.replace(checkpoint, readers=readers), sorted(outside - used)


def chosen_map(
    family: Family, model: nn.Module, checkpoint: Checkpoint, source: str | None
) -> NameMap:
    """The name map that fits a checkpoint best; no tensor is read."""
    return _matched(family, model, checkpoint, source)[0].name_map


def _matched(
    family: Family, model: nn.Module, checkpoint: Checkpoint, source: str | None
) -> tuple[Fit, nn.Module, dict[str, Any], Checkpoint]:
    """The best fit; and model, leaves and checkpoint, all without scanned layers."""
    if checkpoint.description and checkpoint.description.fields.get("scan_layers"):
        stacked = _stacked(family, model)
        # The file may hold a larger model, whose submodule ``encoder`` is this model.
        stacked |= {_inside(name): [*map(_inside, parts)] for name, parts in stacked.items()}
        tensors = _unstack(checkpoint, stacked)
        readers = {name: partial(np.asarray, array) for name, array in tensors.items()}
        checkpoint = dataclasses.replace(checkpoint, readers=readers)
    model = with_fields(model, scan_layers=False)
    leaves = abstract_leaves(model, family.example(model))
    return best_map(family, model, leaves, set(checkpoint), source), model, leaves, checkpoint


def _grid(checkpoint: Checkpoint) -> tuple[int, int] | None:
    """Rows and columns of the positions in a file that `save_variables` wrote."""
    text = checkpoint.metadata.get(GRID, "")
    rows, _, columns = text.partition("x")
    return (int(rows), int(columns)) if rows.isdecimal() and columns.isdecimal() else None


def _to_device(dtype: DTypeLike | None, array: np.ndarray) -> jax.Array:
    """Copies an array to the device, because its file may change later."""
    if dtype is not None and jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(dtype, copy=False)
    # JAX may share the memory of a contiguous array, so it is copied here. JAX itself copies any
    # other array, and does so faster than numpy.
    array = array.copy() if array.flags.c_contiguous else array
    return jax.block_until_ready(jax.device_put(array))


def _initialise(family: Family, model: nn.Module, paths: set[str]) -> dict[str, jax.Array]:
    """Some leaves as `init` makes them; XLA does not compute the others."""

    @jax.jit
    def some() -> dict[str, jax.Array]:
        inputs = [jnp.zeros(x.shape, x.dtype) for x in family.example(model)]
        leaves = flatten(model.init(jax.random.key(0), *inputs))
        return {path: leaves[path] for path in paths}

    return some()


def save_variables(
    family: Family,
    model: nn.Module,
    variables: Mapping[str, Any],
    path: str | Path,
    source: str,
    metadata: Mapping[str, str],
) -> None:
    """Writes a file in a source's names and layouts; no incomplete file appears.

    It is a safetensors file; for the source ``darknet`` a file of darknet, without `metadata`.
    Leaves with the values that the kind of file implies are not in it: see `NameMap.implied`.

    Raises:
        InputError: If the source is unknown or has no name for some leaf, or the file cannot be
            written.
    """
    flat = {name: np.asarray(leaf) for name, leaf in flatten(variables).items()}
    if is_scanned(model):
        stacked = _stacked(family, model)
        flat, model = _unstack(flat, stacked), with_fields(model, scan_layers=False)
    name_map = name_maps(family, source)[0]
    implied = name_map.implied(model)
    held = [x for x in flat if x not in implied or not np.array_equal(flat[x], implied[x].value)]
    try:
        steps = plan(name_map.rules(model), held)
    except ValueError as error:
        raise InputError(f"{source} cannot hold this {family.title}: {error}") from error
    metadata = dict(metadata)
    positions = (x for name, x in flat.items() if name.rpartition("/")[2] in family.positions)
    if (table := next(positions, None)) is not None:
        metadata[GRID] = f"{table.shape[0]}x{table.shape[1]}"
    tensors = {
        step.theirs: np.ascontiguousarray(step.layout.write(*(flat[name] for name in step.ours)))
        for step in steps
    }
    path = Path(path)
    if source == SOURCE:
        write_darknet(path, tensors[TENSOR])
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch()
        mode = part.stat().st_mode  # save_file makes files that only the owner can read
        save_file(tensors, part, metadata=metadata)
        part.chmod(mode)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise WriteError(f"{path}: cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
