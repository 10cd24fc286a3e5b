"""Tasks, one a file: how a batch becomes losses, and a trained model figures."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from zoo.data import Dataset

Batch = dict[str, Any]
Put = Callable[[Batch], Batch]
Draw = Callable[[Mapping[str, Any], Path], None]
"""Draws pictures of what a model with these variables does into a folder that is there."""


class Mean(struct.PyTreeNode):
    """A weighted mean in parts that add up over batches, devices and hosts."""

    total: Float[Array, ""]
    weight: Float[Array, ""]

    @classmethod
    def of(cls, values: Array, weights: Array) -> "Mean":
        """The mean of `values` with `weights` of the same shape."""
        return cls(
            jnp.sum(values * weights, dtype=jnp.float32), jnp.sum(weights, dtype=jnp.float32)
        )

    def __add__(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.weight + other.weight)

    def value(self) -> Float[Array, ""]:
        """The mean; 0 if nothing has weight."""
        return self.total / jnp.where(self.weight == 0, 1.0, self.weight)


class Task(Protocol):
    """What the training loop asks of a task. Tasks are frozen dataclasses of JSON values.

    A step's loss is the sum of the means in the first result of `loss`, each over the whole
    global batch, however many parts, devices and hosts that is computed in.
    """

    best: ClassVar[str]
    """Name of the figure that chooses the best checkpoint; larger is better."""

    def open(self, data: Any, split: Literal["train", "eval"]) -> Dataset:
        """The ``train`` or ``eval`` examples of the run's data configuration."""
        ...

    def model_fields(self, data: Any, dataset: Dataset) -> dict[str, Any]:
        """Fields of the model that the data decide, such as ``num_classes``."""
        ...

    def prepare(self, data: Any, model: nn.Module, key: jax.Array, batch: Batch) -> Batch:
        """What is done to the whole global batch on the devices: normalising, mixing."""
        ...

    def init(self, model: nn.Module, key: jax.Array, batch: Batch) -> Mapping[str, Any]:
        """The model's variables for batches of that shape."""
        ...

    def loss(
        self, model: nn.Module, variables: Mapping[str, Any], key: jax.Array, batch: Batch
    ) -> tuple[dict[str, Mean], dict[str, Mean], Mapping[str, Any]]:
        """Losses of a part of a prepared batch, other metrics, and the changed collections."""
        ...

    def evaluator(
        self, model: nn.Module, data: Any, dataset: Dataset, batch_size: int, put: Put
    ) -> Callable[[Mapping[str, Any]], dict[str, float]]:
        """A function of the variables that gives the task's figures; compiles once."""
        ...

    def pictures(self, model: nn.Module, data: Any, dataset: Dataset, put: Put) -> Draw | None:
        """What draws pictures after each evaluation, of examples of `dataset`; None for none."""
        ...
