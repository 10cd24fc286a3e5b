"""`load` and `save`: a model together with its variables."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from zoo.imagenet import imagenet_names
from zoo.registry import MODELS, create, family_named, family_of, variant_named
from zoo.types import InputError, Preprocessing
from zoo.weights import load as weights
from zoo.weights.convert import LoadReport
from zoo.weights.convert import implied_fields as weight_fields
from zoo.weights.files import (
    FOLDER_FILES,
    METADATA,
    Checkpoint,
    check_output,
    open_checkpoint,
)
from zoo.weights.hub import fetch
from zoo.weights.preprocessing import at_size, names_beside, preprocessing_beside, to_json
from zoo.weights.run import class_names as run_class_names
from zoo.weights.run import fields_to_json, has_images, is_run, run_preprocessing


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
    if not given and _variant_preprocessing(model):
        how = _stated(checkpoint) or (None if stored else report.preprocessing)
        model = _with_preprocessing(model, how)
    if "class_names" not in overrides and hasattr(model, "class_names"):
        names = () if report.reinitialised else _stated_names(checkpoint)
        if not names and _is_of_imagenet(model, checkpoint, report):
            names = imagenet_names()
        # Names of another number of classes are not those of the head.
        model = model.clone(class_names=names if len(names) == model.num_classes else ())
    return model, variables, report


def _stated_names(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The names of the classes that a checkpoint, or a file beside it, states; else none."""
    if checkpoint.format == "run":
        try:
            return run_class_names(checkpoint.path)
        except InputError:  # its data have no classes
            return ()
    if stored := checkpoint.description:
        return stored.class_names
    return names_beside(checkpoint.path)


def _is_of_imagenet(model: Any, checkpoint: Checkpoint, report: LoadReport) -> bool:
    """Whether these are another program's weights of a classifier of ImageNet's 1,000 classes."""
    foreign = not (checkpoint.description or checkpoint.format == "run" or report.source == "zoo")
    whole = not report.reinitialised and model.num_classes == len(imagenet_names())
    return foreign and whole and family_of(model).task == "classification"


def _stated(checkpoint: Checkpoint) -> Preprocessing | None:
    """The preprocessing that a checkpoint, or a file beside it, states; None if neither does."""
    if checkpoint.format == "run":
        return run_preprocessing(checkpoint.path) if has_images(checkpoint.path) else None
    if stored := checkpoint.description:
        return stored.preprocessing
    return preprocessing_beside(checkpoint.path)


def _with_preprocessing(model: Any, how: Preprocessing | None) -> Any:
    """Sets the model's field ``preprocessing``; None if its name implies the same."""
    if how is None:
        return model
    how = at_size(how, model)
    return model.clone(preprocessing=None if how == _variant_preprocessing(model) else how)


def _variant_preprocessing(model: Any) -> Preprocessing | None:
    """The preprocessing of the name nearest to a model, at its size; None if it takes no images."""
    how = variant_named(describe(model)[0]).preprocessing
    return how and at_size(how, model)


def preprocessing_of(model: nn.Module) -> Preprocessing:
    """How images are prepared for a model: its field ``preprocessing``, else as its nearest name.

    Raises:
        InputError: If the model belongs to no registered family or takes no images.
    """
    how = getattr(model, "preprocessing", None) or _variant_preprocessing(model)
    if how is None:
        raise InputError(f"{type(model).__name__} is not for images: it has no preprocessing")
    return how


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


def preprocessing(
    name: str | Path, model: str | nn.Module | None = None, source: str | None = None
) -> Preprocessing:
    """The size, mean, std, interpolation and crop of the images that a model expects.

    A file that `save` wrote and a run store it. For another program's file, timm's config.json or
    Hugging Face's preprocessor_config.json beside it decides. Without such a file the source
    decides, which is detected from the names of the tensors; `model` must then be given.

    >>> how = preprocessing("vit_base_patch16_384")
    >>> how.size, how.mean, how.interpolation
    ((384, 384), (0.5, 0.5, 0.5), 'bicubic')

    Args:
        name: A model's name; or a checkpoint: a file, a folder or an address as for `load`.
        model: The model's name, or the model, for a checkpoint that does not store it.
        source: The project whose tensor names that checkpoint has; detected if absent.

    Raises:
        InputError: If there is no such model or file (similar names of models are listed), the
            model is not for images, or `model` must be given.
    """
    if str(name) in MODELS:
        if (found := variant_named(str(name)).preprocessing) is None:
            raise InputError(f"{name} is not for images: it has no preprocessing")
        return found
    path = fetch(name)
    if is_run(path):
        return run_preprocessing(path)
    if not path.exists() and str(name) == path.stem:
        family_named(str(name))  # raises: it is probably a misspelt name of a model
    checkpoint = open_checkpoint(path)
    found, stored = _stated(checkpoint), checkpoint.description
    if stored and not found:  # a file of version 0.1
        found = preprocessing_of(create(stored.name, **stored.fields))
    module = create(model) if isinstance(model, str) else model
    if module is None:
        if found is None:
            raise InputError(f"{name} does not say how to prepare images: give model=NAME as well")
        return found
    if found is None:
        name_map = weights.chosen_map(family_of(module), module, checkpoint, source)
        found = name_map.preprocessing(module, checkpoint.path.name)
    return at_size(found, module) if found else preprocessing_of(module)


def class_names(path: str | Path) -> tuple[str, ...]:
    """The name of each class that a model knows, by label.

    Args:
        path: A checkpoint with names: a file of `save`, a file with a config.json of Hugging Face
            or timm beside it, a folder with one of these, a training run's directory, or one of its
            ``checkpoints/<step>``.

    Raises:
        InputError: If the file was saved without class names, the run's data have no classes, or
            the path is neither a file nor a run.
    """
    path = Path(path).expanduser()
    holds_file = any((path / name).is_file() for name in FOLDER_FILES)
    if is_run(path) or not (path.is_file() or holds_file):
        return run_class_names(path)
    if names := _stated_names(open_checkpoint(path)):
        return names
    raise InputError(f"{path}: no names of classes; zoo.save(..., class_names=...) writes them")


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
    how = preprocessing or getattr(model, "preprocessing", None) or _variant_preprocessing(model)
    if how is not None:
        entry["preprocessing"] = to_json(at_size(how, model))
    if class_names:
        entry["class_names"] = list(class_names)
    framework = "flax" if source in ("zoo", "big_vision") else "pt"  # other programs read it
    metadata = {"format": framework, METADATA: json.dumps(entry)}
    weights.save_variables(family_of(model), model, variables, path, source, metadata)


def describe(model: nn.Module) -> tuple[str, dict[str, object]]:
    """The registered name nearest to a model, and the fields in which the model differs from it."""

    def fields(module: nn.Module) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(module)]
        return {name: getattr(module, name) for name in names if name not in ("parent", "name")}

    family, ours, differences = family_of(model), fields(model), {}
    for name in family.variants:
        theirs = fields(family.create(name))
        differences[name] = {k: v for k, v in ours.items() if v != theirs[k]}
    name = min(differences, key=lambda name: len(differences[name]))
    return name, differences[name]
