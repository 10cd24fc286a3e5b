"""Every family of models, and every model by name."""

import difflib
import fnmatch
import importlib
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from flax import linen as nn

from zoo.family import Family, Variant
from zoo.fields import check_fields
from zoo.types import InputError

# Packages below `zoo.models`, one line each. They are strings, because with import statements a new
# family would have to edit two lines.
_PACKAGES = (
    "classification.vit",
    "classification.mlp_mixer",
    "classification.resnet",
    "classification.mobilenetv3",
    "classification.vgg",
    "classification.darknet",
    "classification.efficientnet",
    "classification.dla",
    "detection.detr",
    "detection.rcnn",
    "detection.sppnet",
    "detection.fast_rcnn",
    "detection.faster_rcnn",
    "detection.cascade_rcnn",
    "detection.mask_rcnn",
    "detection.cascade_mask_rcnn",
    "detection.keypoint_rcnn",
    "detection.rfcn",
    "detection.tridentnet",
    "detection.panet",
    "detection.retinanet",
    "detection.fcos",
    "detection.ssd",
    "detection.cornernet",
    "detection.extremenet",
    "detection.yolov3",
    "detection.yolov2",
    "detection.yolov1",
    "detection.efficientdet",
    "detection.centernet",
    "detection.centernet_pose",
    "detection.centernet_3d",
    "pretraining.mae",
    "segmentation.unet",
    "segmentation.backbone_unet",
    "text.transformer",
)

FAMILIES: tuple[Family, ...] = tuple(
    importlib.import_module(f"zoo.models.{package}").FAMILY for package in _PACKAGES
)

MODELS: dict[str, Family] = {name: family for family in FAMILIES for name in family.variants}
"""The family that each model name belongs to."""

BACKBONES: dict[str, Family] = {
    name: family for name, family in MODELS.items() if family.is_backbone
}
"""The models that other models can be built on."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line saying that `name` is unknown, with all known names, or if many the similar ones."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=5) if len(known) > 20 else []
    hint = f"similar are {', '.join(near)}" if near else f"there are {', '.join(known)}"
    return f"no {kind} {name!r}; {hint}"


def list_models(pattern: str = "*") -> list[str]:
    """Sorted names of the models that match a shell-style pattern.

    >>> list_models("mixer_b*")
    ['mixer_b16_224', 'mixer_b32_224']
    """
    return sorted(fnmatch.filter(MODELS, pattern))


def family_named(name: str) -> Family:
    """The family that a model name belongs to.

    Raises:
        InputError: If there is no such model; similar names are listed.
    """
    if name not in MODELS:
        raise InputError(unknown("model", name, MODELS))
    return MODELS[name]


def variant_named(name: str) -> Variant:
    """The variant with a given name; raises the same errors as `family_named`."""
    return family_named(name).variants[name]


def family_of(model: nn.Module) -> Family:
    """The family of a module.

    Raises:
        InputError: If its class belongs to no registered family.
    """
    for family in FAMILIES:
        if type(model) is family.module:
            return family
    raise InputError(f"{type(model).__name__} belongs to no registered family")


def layers_of(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    """The order of a model's layers: see `zoo.family.Family.layers`; empty if it has none."""
    layers = family_of(model).layers
    return layers(model) if layers else ()


def create(name: str, **fields: object) -> Any:
    """Creates a model by name; `fields` replace the values of its fields.

    The module holds no parameters: ``model.init(key, images)`` makes them and
    ``model.apply(variables, images)`` runs it.

    >>> model = create("vit_tiny_patch16_224", num_classes=10)
    >>> model.hidden_dim, model.num_layers, model.num_classes
    (192, 12, 10)

    Args:
        name: One of `list_models`.
        **fields: Fields of the module, such as ``num_classes``, ``image_size``, ``dtype``.

    Raises:
        InputError: If there is no such model (similar names are listed), a value is out of its
            range, or values do not go together, such as a number of heads that does not divide the
            features.
        TypeError: If the model has no such field; the fields that it has are listed, or its name
            for one of timm's.
    """
    family = family_named(name)
    known = family.field_names()
    for field in fields:
        if field not in known:
            raise TypeError(f"{name}: {_instead(field, known) or unknown('field', field, known)}")
    values = {field: _plain(value) for field, value in fields.items()}
    check_fields(name, family.module, {**family.variants[name].fields, **values})
    model = family.create(name, **values)
    if hasattr(model, "make_body"):
        model.make_body()  # checks the backbone's name and fields
    return model


def _plain(value: object) -> object:
    """A list as a tuple, which is hashable; a scalar of numpy as Python's, for JSON."""
    if isinstance(value, list):
        return tuple(value)
    return value.item() if isinstance(value, np.integer | np.floating) else value


# Arguments of timm's create_model -> our fields, or what to do instead.
_TIMM_FIELDS = {
    "img_size": "image_size",
    "embed_dim": "hidden_dim",
    "depth": "num_layers",
    "drop_path_rate": "drop_path",
    "drop_rate": "dropout",
    "proj_drop_rate": "dropout",
    "attn_drop_rate": "dropout",
    "global_pool": "pool",
    "layers": "num_blocks",
    "channels": "stage_dims",
}
_TIMM_WAYS = {
    "pretrained": "zoo.load(NAME, FILE) loads weights",
    "checkpoint_path": "zoo.load(NAME, FILE) loads weights",
    "in_chans": "images have three channels: repeat a gray channel",
    "mlp_ratio": "mlp_dim is the number of features, not their ratio",
    "features_only": "every backbone has feature_maps(images)",
    "out_indices": "feature_maps(images) gives the maps of all strides",
    "global_pool": "num_classes=0 gives pooled features, feature_maps(images) those before pooling",
    "drop_rate": "it has no dropout",
    "embed_dim": "its widths are other fields",
}


def _instead(field: str, known: Collection[str]) -> str | None:
    """What the zoo has instead of an argument of timm; None for other names."""
    ours = _TIMM_FIELDS.get(field)
    if ours in known:
        return f"no field {field!r}; it is {ours} here"
    return f"no field {field!r}: {_TIMM_WAYS[field]}" if field in _TIMM_WAYS else None
