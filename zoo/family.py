"""The declaration of a model family: all facts about it that the rest of the project uses.

A family is one package below `zoo.models`; its ``__init__.py`` defines ``FAMILY = Family(...)``.
The registry lists the families. No other code outside the family's package names it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from zoo.types import Preprocessing

Task = Literal["classification", "pretraining", "detection", "segmentation", "text"]
Size = tuple[int, int]
Inputs = Callable[[Any, Size | None, int, jax.Array], tuple]
"""A function that draws random inputs of a model: (model, height and width of images or None,
number of examples, random key) -> the model's positional arguments. With None the size is one that
the model's fields allow."""


class Layout(NamedTuple):
    """A layout change: `read` turns one of their arrays into a tuple of ours; `write` undoes it."""

    read: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    write: Callable[..., np.ndarray]


class Rule(NamedTuple):
    """The name of one of their tensors, the paths of our leaves in it, and the layout change."""

    theirs: str
    ours: tuple[str, ...]
    layout: Layout


class Implied(NamedTuple):
    """The value of a leaf that no tensor of the file holds, and the reason for the value."""

    value: np.ndarray
    why: str


class NameMap(NamedTuple):
    """The names that one source uses for one family; `zoo.weights.maps` explains the patterns.

    Attributes:
        source: ``timm``, ``torchvision``, ...
        rules: A function from a model to the rules for its leaves.
        ignored: Shell-style patterns of their tensors that our model does not use, each with the
            reason.
        fields: Model fields with the values that this source's models use and that a file does not
            contain, or a function from a model to these. A model that is loaded from another
            program's file gets them, unless the caller gives other values. A mapping replaces the
            model's, so the function adds to the model's what that lacks.
        implied: A function from a model to our leaves whose values follow from the kind of file;
            they are not looked for in the file.
        preprocessing: A function from a model and its file's name to the preprocessing that this
            source's models need; it returns None if that is the preprocessing of the variant.
        wrapped: Whether the names begin with the name of a submodule, as those of Hugging Face's
            classifiers do; the names of a bare backbone do not.
    """

    source: str
    rules: Callable[[Any], tuple[Rule, ...]]
    ignored: Mapping[str, str] = MappingProxyType({})
    fields: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] = MappingProxyType({})
    implied: Callable[[Any], dict[str, Implied]] = lambda _: {}
    preprocessing: Callable[[Any, str], Preprocessing | None] = lambda *_: None
    wrapped: bool = False


@dataclasses.dataclass(frozen=True)
class Variant:
    """One named model of a family.

    Attributes:
        fields: Fields of the family's module whose values differ from the defaults.
        preprocessing: How images are prepared for it; None for a model that takes no images.
        read_fields: A function that reads more fields from the files in a checkpoint's folder, for
            models whose sizes are given by a published file.
        paper: arXiv number, if it differs from the family's.
        parity: Largest difference between the outputs and the original's at full size, relative to
            the scale of the outputs, as `tests/golden/check_parity.py` printed it; and which
            original it was compared with.
    """

    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    read_fields: Callable[[Path], dict[str, Any]] | None = None
    paper: str | None = None
    parity: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models.

    Attributes:
        title: The family's usual name.
        summary: The models of the family, in a few words.
        module: The Linen module; its fields are the model's configuration. A module that takes
            images has the field ``preprocessing: Preprocessing | None = None``, which `zoo.load`
            sets; one with classes can have the field ``class_names: tuple[str, ...] = ()``, too.
        task: What it is trained for; the task determines data, evaluation and pictures.
        paper: arXiv number.
        reference: The implementation whose outputs the family reproduces.
        inputs: Draws inputs of the module, for initialisation, tests, speed and export.
        variants: The named models.
        names: Name maps of the projects whose files can be loaded. If two fit a file equally well,
            the first is used.
        loss: The class of its loss: a frozen dataclass of settings, called with the module's
            output and the task's targets; None if the task's own loss is used.
        decode: Converts the module's output to a class of `zoo.outputs`; None if the task's own
            conversion is used.
        layers: A function from a model to beginnings of its variables' paths, in groups that are
            ordered from the input to the output. Layer-wise decay of the learning rate uses this
            order; variables in no group belong to the head. None if there is no such order.
        head: Beginnings of the paths of variables that are initialised anew if the number of
            classes changes.
        positions: Names of leaves that hold positions as a grid ``[rows columns d]``; loading
            interpolates them for another image size.
        learns: A function from a detector to the parts of `zoo.outputs.Targets` that it is trained
            on, besides boxes and labels: ``masks``, ``keypoints``.
        takes_proposals: Whether the module's third argument is a `zoo.outputs.Proposals`.
        without_gradient: Paths of parameters whose gradient is zero in the first step.
        constant: Fields of the output with boxes in pixels, such as anchors and proposals, which
            have no gradient.
        chosen: Fields of the output that belong to boxes which the model chooses by their scores.
            Rounding can change the choice, so results in different precisions cannot be compared.
    """

    title: str
    summary: str
    module: type[nn.Module]
    task: Task
    paper: str
    reference: str
    inputs: Inputs
    variants: Mapping[str, Variant]
    names: tuple[NameMap, ...] = ()
    loss: Callable[[], Any] | None = None
    decode: Callable[..., Any] | None = None
    layers: Callable[[Any], tuple[tuple[str, ...], ...]] | None = None
    head: tuple[str, ...] = ("params/head/",)
    positions: tuple[str, ...] = ("pos_embed",)
    learns: Callable[[Any], tuple[str, ...]] = lambda _: ()
    takes_proposals: bool = False
    without_gradient: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()

    @property
    def is_backbone(self) -> bool:
        """Whether other models can be built on its feature maps."""
        return hasattr(self.module, "feature_maps")

    def create(self, name: str, **fields: Any) -> Any:
        """The model with a given name; `fields`, which are not checked, replace its fields."""
        return self.module(**{**self.variants[name].fields, **fields})

    def field_names(self) -> set[str]:
        """Names of the module's fields that are its configuration."""
        fields = dataclasses.fields(self.module)
        return {field.name for field in fields} - {"parent", "name"}

    def example(self, model: Any) -> tuple:
        """Shapes and dtypes of inputs that a model can be initialised with."""
        return jax.eval_shape(partial(self.inputs, model, None, 1), jax.random.key(0))
