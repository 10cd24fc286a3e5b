"""Tasks, one in each file: they compute losses of a batch and figures of a trained model."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import jax
from flax import linen as nn

from zoo import family
from zoo.data import Dataset
from zoo.losses.mean import Mean, Means

Batch = dict[str, Any]
Put = Callable[[Batch], Batch]
__all__ = ["Batch", "Draw", "Mean", "Means", "Put", "Task", "changing"]

Draw = Callable[[Mapping[str, Any], Path], None]
"""Draws pictures of the predictions of a model with these variables into an existing folder."""


class Task(Protocol):
    """The interface that the training loop uses. Tasks are frozen dataclasses of JSON values.

    If the families of a task declare a `loss`, the task has a field ``loss``. It holds the settings
    of the loss: an instance of the class that the family declares.

    The loss of a step is the sum of the means in the first result of `compute_loss`. Each mean is
    over the whole global batch, also if the batch is computed in parts, on several devices and
    hosts.
    """

    kind: ClassVar[family.Task]
    """Models of the families that declare this task can be trained with it."""
    best: ClassVar[str]
    """Name of the figure that selects the best checkpoint; larger is better."""

    def open(self, data: Any, split: Literal["train", "eval"]) -> Dataset:
        """The ``train`` or ``eval`` examples of the run's data configuration."""
        ...

    def model_fields(self, data: Any, dataset: Dataset) -> dict[str, Any]:
        """Fields of the model that the data decide, such as ``num_classes``."""
        ...

    def prepare(self, data: Any, model: nn.Module, key: jax.Array, batch: Batch) -> Batch:
        """Prepares the whole global batch on the devices: normalises images, mixes examples."""
        ...

    def init(self, model: nn.Module, key: jax.Array, batch: Batch) -> Mapping[str, Any]:
        """The initial variables of the model for batches of this shape."""
        ...

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """The arguments with which the model is called, taken from a prepared batch."""
        ...

    def compute_loss(
        self, model: nn.Module, variables: Mapping[str, Any], key: jax.Array, batch: Batch
    ) -> tuple[Means, Means, Mapping[str, Any]]:
        """Losses and other metrics of a part of a prepared batch, and the changed collections."""
        ...

    def evaluator(
        self, model: nn.Module, data: Any, dataset: Dataset, batch_size: int, put: Put
    ) -> Callable[[Mapping[str, Any]], dict[str, float]]:
        """A function that gives the figures of the task for given variables; compiles once."""
        ...

    def pictures(self, model: nn.Module, data: Any, dataset: Dataset, put: Put) -> Draw | None:
        """A function that draws examples of `dataset` after each evaluation, or None."""
        ...


def changing(variables: Mapping[str, Any]) -> list[str]:
    """The collections that a training step may change: all but the parameters."""
    return [name for name in variables if name != "params"]
