"""Every model by name."""

import dataclasses
import difflib
import fnmatch
from collections.abc import Iterable
from pathlib import Path

from flax import linen as nn

from zoo.models import detr, mae, mlp_mixer, resnet, transformer, unet, vit
from zoo.types import InputError, Preprocessing, Variant
from zoo.weights.run import is_run, run_preprocessing

MODELS: dict[str, Variant] = {
    **vit.VARIANTS,
    **mlp_mixer.VARIANTS,
    **resnet.VARIANTS,
    **detr.VARIANTS,
    **mae.VARIANTS,
    **unet.VARIANTS,
    **transformer.VARIANTS,
}


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line saying that there is no such `kind`: near names if there are many, else all."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=5) if len(known) > 20 else []
    hint = f"near are {', '.join(near)}" if near else f"there are {', '.join(known)}"
    return f"no {kind} {name!r}; {hint}"


def list_models(pattern: str = "*") -> list[str]:
    """Sorted names of the models that match a shell-style pattern.

    >>> list_models("mixer_b*")
    ['mixer_b16_224', 'mixer_b32_224']
    """
    return sorted(fnmatch.filter(MODELS, pattern))


def _variant(name: str) -> Variant:
    if name not in MODELS:
        raise InputError(unknown("model", name, MODELS))
    return MODELS[name]


def create(name: str, **fields: object) -> nn.Module:
    """A model by name; its fields can be given other values.

    The module holds no parameters: ``model.init(key, images)`` makes them and
    ``model.apply(variables, images)`` runs it.

    >>> model = create("vit_tiny_patch16_224", num_classes=10)
    >>> model.hidden_dim, model.num_layers, model.num_classes
    (192, 12, 10)

    Args:
        name: One of `list_models`.
        **fields: Fields of the module, such as ``num_classes``, ``image_size``, ``dtype``.

    Raises:
        InputError: If there is no such model; near names are listed.
        TypeError: If the model has no such field; those that it has are listed.
    """
    build = _variant(name).build
    known = {field.name for field in dataclasses.fields(build.func)} - {"parent", "name"}
    for field in fields:
        if field not in known:
            raise TypeError(f"{name}: {unknown('field', field, known)}")
    return build(**fields)


def preprocessing(name: str | Path) -> Preprocessing:
    """The size, mean, std, interpolation and crop of the images that a model expects.

    >>> how = preprocessing("vit_base_patch16_384")
    >>> how.size, how.mean, how.interpolation
    ((384, 384), (0.5, 0.5, 0.5), 'bicubic')

    Args:
        name: A model's name, or a training run's directory.

    Raises:
        InputError: If there is no such model, of which near names are listed, nor such a run; or
            if the model is not for images.
    """
    if str(name) not in MODELS and is_run(Path(name)):
        return run_preprocessing(name)
    found = _variant(str(name)).preprocessing
    if found is None:
        raise InputError(f"{name} is not for images: there is nothing to prepare them for")
    return found
