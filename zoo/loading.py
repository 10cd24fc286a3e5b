"""`load` and `save`: a model together with its variables."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from zoo.registry import MODELS, create
from zoo.types import InputError
from zoo.weights import (
    METADATA,
    LoadReport,
    fetch,
    fields_to_json,
    load_variables,
    open_checkpoint,
    read_marian_fields,
    save_variables,
)


def load(
    name: str | Path,
    path: str | Path | None = None,
    source: str | None = None,
    *,
    param_dtype: DTypeLike | None = jnp.float32,
    **overrides: object,
) -> tuple[nn.Module, dict[str, Any]]:
    """A model and its variables from a checkpoint.

    ``load(FILE)`` restores a file that `save` wrote and ``load(DIR)`` a training run: they know
    their model. ``load("marian", DIR)`` takes the fields from the config.json beside the weights.
    Everything in the file and in the model is accounted for; see `zoo.weights.load_report`.
    Positions are interpolated for another image size; another program's epsilon of the norms
    becomes the model's.

    >>> import tempfile, jax
    >>> from zoo import create, save
    >>> model = create("mixer_nano_patch4_32", num_layers=1, num_classes=3)
    >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    >>> path = Path(tempfile.mkdtemp()) / "mixer.safetensors"
    >>> save(model, variables, path)
    >>> again, _ = load(path)
    >>> again.num_layers, again.num_classes
    (1, 3)
    >>> save(model, variables, path, source="timm")  # for PyTorch
    >>> model, _ = load("mixer_nano_patch4_32", path, num_layers=1, num_classes=7)  # a new head

    Args:
        name: A model's name; or, alone, a file of `save` or a run's directory.
        path: A checkpoint: safetensors, npz, PyTorch's formats, an index of shards, a run, an
            Orbax folder, ``hf://owner/repo[/file][@revision]`` or ``https://...``.
        source: Whose names the file has: ``timm``, ``torchvision``, ``huggingface``,
            ``fair``, ``torch``, ``big_vision``, ``smp`` or ``zoo``; found out if absent.
        param_dtype: Of floating-point variables; None keeps the file's.
        **overrides: Fields of the model. ``num_classes`` other than the file's gives a new head.

    Raises:
        InputError: If the model is unknown, the file cannot be read, or does not fit the model.
        TypeError: If the model has no such field.
    """
    model, variables, _ = load_with_report(name, path, source, param_dtype=param_dtype, **overrides)
    return model, variables


def load_with_report(
    name: str | Path,
    path: str | Path | None = None,
    source: str | None = None,
    *,
    param_dtype: DTypeLike | None = jnp.float32,
    **overrides: object,
) -> tuple[nn.Module, dict[str, Any], LoadReport]:
    """As `load`, with the report of what was loaded, resized and initialised anew."""
    if path is None and name in MODELS:
        raise InputError(f"{name}: load needs a checkpoint's path as well; create makes a model")
    checkpoint = open_checkpoint(fetch(name if path is None else path))
    stored = checkpoint.description
    new_head = "num_classes" in overrides
    if path is None:
        if not stored:
            raise InputError(f"{name}: it does not say which model it is: give a name and the path")
        name, overrides = stored.name, {**stored.fields, **overrides}
    elif name == "marian":
        overrides = {**read_marian_fields(checkpoint.path.parent), **overrides}
    try:
        model = create(str(name), **overrides)
    except TypeError as error:
        if path is not None:
            raise  # a field of the caller's
        raise InputError(f"{checkpoint.path}: {error}") from error
    variables, report = load_variables(
        model,
        checkpoint,
        source or (stored.source if stored else None),
        new_head=new_head,
        dtype=param_dtype,
    )
    if not stored:
        fields = {name: x for name, x in report.fields.items() if name not in overrides}
        model = model.clone(**fields)
    return model, variables, report


def save(
    model: nn.Module, variables: Mapping[str, Any], path: str | Path, source: str = "zoo"
) -> None:
    """Writes a model's variables as safetensors, so that ``load(path)`` alone restores both.

    For an example see `load`.

    Args:
        model: The model; its name and fields go into the file's metadata.
        variables: All its collections.
        path: The file.
        source: Whose names and layouts to write: ``zoo``, or those of a source that `load` knows,
            such as ``timm`` for use in PyTorch. ``big_vision`` has no position for the class token:
            the token is written as the sum of the two, which gives the same logits.

    Raises:
        InputError: If the model is of no registered family, or the source cannot name it.
    """
    name, fields = describe(model)
    described = {"name": name, "fields": fields_to_json(fields), "source": source}
    framework = "flax" if source in ("zoo", "big_vision") else "pt"  # what readers look for
    metadata = {"format": framework, METADATA: json.dumps(described)}
    save_variables(model, variables, path, source, metadata)


def describe(model: nn.Module) -> tuple[str, dict[str, object]]:
    """The registered name nearest to a model, and the fields that differ from it."""

    def fields(module: nn.Module) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(module)]
        return {name: getattr(module, name) for name in names if name not in ("parent", "name")}

    ours, differences = fields(model), {}
    for name, variant in MODELS.items():
        if variant.build.func is type(model):
            theirs = fields(variant.build())
            differences[name] = {k: v for k, v in ours.items() if v != theirs[k]}
    if not differences:
        raise InputError(f"{type(model).__name__} is of no registered family")
    name = min(differences, key=lambda name: len(differences[name]))
    return name, differences[name]
