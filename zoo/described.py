"""What models and checkpoints say of themselves: names, fields, preprocessing and classes."""

import dataclasses
from pathlib import Path
from typing import Any

from flax import linen as nn

from zoo.registry import MODELS, create, family_named, family_of, variant_named
from zoo.types import InputError, Preprocessing
from zoo.weights import load as weights
from zoo.weights.files import FOLDER_FILES, Checkpoint, open_checkpoint
from zoo.weights.hub import fetch
from zoo.weights.preprocessing import at_size, names_beside, preprocessing_beside
from zoo.weights.run import class_names as run_class_names
from zoo.weights.run import has_images, is_run, run_preprocessing


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


def preprocessing_of(model: nn.Module) -> Preprocessing:
    """How images are prepared for a model: its field ``preprocessing``, else as its nearest name.

    Raises:
        InputError: If the model belongs to no registered family or takes no images.
    """
    how = getattr(model, "preprocessing", None) or variant_preprocessing(model)
    if how is None:
        raise InputError(f"{type(model).__name__} is not for images: it has no preprocessing")
    return how


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
    found, stored = stated_preprocessing(checkpoint), checkpoint.description
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
    if names := stated_names(open_checkpoint(path)):
        return names
    raise InputError(f"{path}: no names of classes; zoo.save(..., class_names=...) writes them")


def variant_preprocessing(model: Any) -> Preprocessing | None:
    """The preprocessing of the name nearest to a model, at its size; None if it takes no images."""
    how = variant_named(describe(model)[0]).preprocessing
    return how and at_size(how, model)


def stated_preprocessing(checkpoint: Checkpoint) -> Preprocessing | None:
    """The preprocessing that a checkpoint, or a file beside it, states; None if neither does."""
    if checkpoint.format == "run":
        return run_preprocessing(checkpoint.path) if has_images(checkpoint.path) else None
    if stored := checkpoint.description:
        return stored.preprocessing
    return preprocessing_beside(checkpoint.path)


def stated_names(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The names of the classes that a checkpoint, or a file beside it, states; else none."""
    if checkpoint.format == "run":
        try:
            return run_class_names(checkpoint.path)
        except InputError:  # its data have no classes
            return ()
    if stored := checkpoint.description:
        return stored.class_names
    return names_beside(checkpoint.path)
