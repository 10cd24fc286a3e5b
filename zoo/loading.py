"""`load` and `save`: a model together with its variables."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from zoo.described import (
    describe,
    stated_names,
    stated_preprocessing,
    variant_preprocessing,
)
from zoo.imagenet import imagenet_names
from zoo.registry import MODELS, create, family_of, variant_named
from zoo.types import InputError, Preprocessing
from zoo.weights import load as weights
from zoo.weights.convert import LoadReport
from zoo.weights.convert import implied_fields as weight_fields
from zoo.weights.files import METADATA, Checkpoint, check_output, open_checkpoint
from zoo.weights.hub import fetch
from zoo.weights.preprocessing import at_size, to_json
from zoo.weights.run import fields_to_json


def load(
    name: str | Path,
    path: str | Path | None = None,
    source: str | None = None,
    *,
    param_dtype: DTypeLike | None = jnp.float32,
    **overrides: object,
) -> tuple[nn.Module, dict[str, Any]]:
    """Loads a model and its variables from a checkpoint.

    ``load(FILE)`` restores a file that `save` wrote, and ``load(DIR)`` a training run: both store
    which model they hold. ``load("marian", DIR)`` reads the fields from the config.json beside the
    weights. Every leaf of the model must be filled, and every tensor of the file must be used or
    known to be unneeded; see `zoo.weights.load_report`. Positions are interpolated for another
    image size. The model gets the epsilon of the norms that the other program uses. Its field
    ``preprocessing`` says how images are prepared for the weights; None if as for the model's name.
    Its field ``class_names`` has the names of the classes from the file or a config.json beside it;
    without these, another program's classifier of 1,000 classes gets ImageNet's.

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
        name: A model's name; or, without `path`, a file that `save` wrote or a run's directory.
        path: A checkpoint: safetensors, npz, PyTorch's formats, a pickle of numpy's arrays,
            darknet's ``.weights``, an index of shards, a run, an Orbax folder,
            ``hf://owner/repo[/file][@revision]`` or ``https://...``.
        source: The project whose tensor names the file has: ``timm``, ``torchvision``,
            ``huggingface``, ``fair``, ``torch``, ``big_vision``, ``smp``, ``detectron2``,
            ``mmdet``, ``darknet``, ``effdet``, ``zoo``, and others of single families; detected if
            absent. ``timm_tf``, for timm's EfficientNets with ``tf_`` in their names, is not.
        param_dtype: Dtype of floating-point variables; None keeps the dtypes of the file.
        **overrides: Fields of the model. With a ``num_classes`` that differs from the file's, the
            head is initialised anew.

    Raises:
        InputError: If the model is unknown, or the file cannot be read or does not fit the model.
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
    """Like `load`, with a report of what was loaded, resized and initialised anew."""
    if path is None and name in MODELS:
        raise InputError(f"{name}: load needs a checkpoint's path as well; create makes a model")
    checkpoint = open_checkpoint(fetch(name if path is None else path))
    stored = checkpoint.description
    new_head, given = "num_classes" in overrides, "preprocessing" in overrides
    if path is None:
        if not stored:
            raise InputError(f"{name}: it does not say which model it is: give a name and the path")
        name, overrides = stored.name, {**stored.fields, **overrides}
    elif str(name) in MODELS and (read_fields := variant_named(str(name)).read_fields):
        overrides = {**read_fields(checkpoint.path.parent), **overrides}
    try:
        model = create(str(name), **overrides)
    except TypeError as error:
        if path is not None:
            raise  # the caller gave this field
        raise InputError(f"{checkpoint.path}: {error}") from error
    variables, report = weights.load_variables(
        family_of(model),
        model,
        checkpoint,
        source or (stored.source if stored else None),
        new_head=new_head,
        dtype=param_dtype,
    )
    if not stored:
        fields = report.fields.items()
        fields = {k: x for k, x in fields if k not in overrides or isinstance(x, Mapping)}
        model = model.clone(**fields)
    if not given and variant_preprocessing(model):
        how = stated_preprocessing(checkpoint) or (None if stored else report.preprocessing)
        model = _with_preprocessing(model, how)
    if "class_names" not in overrides and hasattr(model, "class_names"):
        names = () if report.reinitialised else stated_names(checkpoint)
        if not names and _is_of_imagenet(model, checkpoint, report):
            names = imagenet_names()
        # Names of another number of classes are not those of the head.
        model = model.clone(class_names=names if len(names) == model.num_classes else ())
    return model, variables, report


def _is_of_imagenet(model: Any, checkpoint: Checkpoint, report: LoadReport) -> bool:
    """Whether these are another program's weights of a classifier of ImageNet's 1,000 classes."""
    foreign = not (checkpoint.description or checkpoint.format == "run" or report.source == "zoo")
    whole = not report.reinitialised and model.num_classes == len(imagenet_names())
    return foreign and whole and family_of(model).task == "classification"


def _with_preprocessing(model: Any, how: Preprocessing | None) -> Any:
    """Sets the model's field ``preprocessing``; None if its name implies the same."""
    if how is None:
        return model
    how = at_size(how, model)
    return model.clone(preprocessing=None if how == variant_preprocessing(model) else how)


def load_variables(
    model: nn.Module,
    checkpoint: Checkpoint,
    source: str | None = None,
    *,
    new_head: bool = False,
    dtype: DTypeLike | None = jnp.float32,
) -> tuple[dict[str, Any], LoadReport]:
    """A model's variables from an open checkpoint: see `zoo.weights.load.load_variables`."""
    family = family_of(model)
    return weights.load_variables(family, model, checkpoint, source, new_head=new_head, dtype=dtype)


def load_report(
    model: nn.Module, path: str | Path, source: str | None = None, *, new_head: bool = False
) -> LoadReport:
    """Reports what loading a checkpoint into a model would do; differing names raise no error.

    Args:
        model: The model.
        path: The checkpoint.
        source: The project whose tensor names the file has; detected if absent.
        new_head: Whether a head with another number of classes is initialised anew.

    Raises:
        InputError: If the file cannot be read, or the source is unknown.
    """
    checkpoint = open_checkpoint(path)
    return weights.report_of(family_of(model), model, checkpoint, source, new_head=new_head)[1]


def implied_fields(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """The fields that a model gets if it is loaded from another program's file.

    They are values which the file does not contain, such as the epsilon of norms. A file of `save`
    and a run store all fields: the result is empty for them.

    Args:
        model: The model.
        path: The checkpoint, as for `load`.

    Raises:
        InputError: If the file cannot be read, or belongs to no source of this family.
    """
    checkpoint = open_checkpoint(fetch(path))
    if checkpoint.description:
        return {}
    name_map = weights.chosen_map(family_of(model), model, checkpoint, None)
    return weight_fields(name_map, model)


def save(
    model: nn.Module,
    variables: Mapping[str, Any],
    path: str | Path,
    source: str = "zoo",
    *,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] = (),
) -> None:
    """Writes a model's variables as safetensors, so that ``load(path)`` restores both.

    With the source ``darknet`` the file is darknet's own, which does not say which model it is for.

    For an example see `load`.

    Args:
        model: The model; its name and fields go into the file's metadata.
        variables: All collections of its variables.
        path: The file; its name ends in ``.safetensors``, for darknet in ``.weights``, or has no
            suffix of another format.
        source: The project whose names and layouts are written: ``zoo``, or another source that
            `load` knows, such as ``timm`` for use in PyTorch. ``big_vision`` has no position for
            the class token: the sum of token and position is written as the token, which gives
            the same logits.
        preprocessing: How images are prepared for the model; if absent, the preprocessing that
            `zoo.predict` uses is written.
        class_names: The name of each class, by label, which `zoo.load` and `zoo.class_names` read
            back; if absent, the model's.

    Raises:
        InputError: If the model belongs to no registered family, the source has no name for one
            of its leaves, or the path has the suffix of another format or is in no folder.
    """
    check_output(path, source)
    name, fields = describe(model)
    fields.pop("preprocessing", None)
    own_names: Any = fields.pop("class_names", ())
    class_names = class_names or own_names
    entry = {"name": name, "fields": fields_to_json(fields), "source": source}
    how = preprocessing or getattr(model, "preprocessing", None) or variant_preprocessing(model)
    if how is not None:
        entry["preprocessing"] = to_json(at_size(how, model))
    if class_names:
        entry["class_names"] = list(class_names)
    framework = "flax" if source in ("zoo", "big_vision") else "pt"  # other programs read it
    metadata = {"format": framework, METADATA: json.dumps(entry)}
    weights.save_variables(family_of(model), model, variables, path, source, metadata)
