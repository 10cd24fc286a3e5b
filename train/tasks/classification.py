"""Image classification."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import eval.classification
from train.tasks import Batch, Draw, Mean, Means, Put, changing
from zoo import family
from zoo.data import ClassificationData, Dataset, mix_batch, normalize, open_classification
from zoo.losses.classification import LOSSES
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class Classification:
    """One class for each image.

    Attributes:
        loss_name: ``softmax`` for the cross-entropy over all classes, or ``sigmoid`` for the sum of
            one binary cross-entropy for each class.
        label_smoothing: Share of the target that is spread evenly over the classes
            (arXiv 1512.00567).
    """

    loss_name: Literal["softmax", "sigmoid"] = "softmax"
    label_smoothing: float = 0.0

    kind: ClassVar[family.Task] = "classification"
    best: ClassVar[str] = "top1"

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing is {self.label_smoothing}, but must be in 0..1")

    def open(self, data: ClassificationData, split: Literal["train", "eval"]) -> Dataset:
        """The examples of a split."""
        return open_classification(data, split)

    def model_fields(self, data: ClassificationData, dataset: Dataset) -> dict[str, Any]:
        """The number of classes of the data, and the size of its images."""
        return {"num_classes": dataset.num_classes, "image_size": data.image_size}

    def init(self, model: nn.Module, key: jax.Array, batch: Batch) -> Mapping[str, Any]:
        """The initial variables of the model for images of this shape."""
        return model.init(key, jnp.zeros(batch["image"].shape, jnp.float32))

    def prepare(self, data: ClassificationData, model: Any, key: jax.Array, batch: Batch) -> Batch:
        """Normalised images, and targets ``[b k]`` after smoothing and mixing.

        A row of targets sums to 1, or to 0 if the example is not valid.
        """
        images = normalize(batch["image"], data.mean, data.std)
        targets = optax.smooth_labels(
            jax.nn.one_hot(batch["label"], model.num_classes), self.label_smoothing
        )
        targets = targets * batch["valid"][:, None]
        if data.mixup or data.cutmix:
            images, targets = mix_batch(
                key,
                images,
                targets,
                mixup=data.mixup,
                cutmix=data.cutmix,
                probability=data.mix_probability,
            )
        return {"images": images, "targets": targets}

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """The images."""
        return (batch["images"],)

    def compute_loss(
        self, model: nn.Module, variables: Mapping[str, Any], key: jax.Array, batch: Batch
    ) -> tuple[Means, Means, Mapping[str, Any]]:
        """The mean cross-entropy of the valid examples, and their top-1 after mixing."""
        logits, changed = model.apply(
            variables,
            *self.inputs(batch),
            train=True,
            rngs={"dropout": key},
            mutable=changing(variables),
        )
        targets = batch["targets"]
        weights = targets.sum(axis=-1)
        losses = LOSSES[self.loss_name](logits, targets)
        hits = logits.argmax(axis=-1) == targets.argmax(axis=-1)
        loss = Mean(losses.sum(), weights.sum())
        return {"loss": loss}, {"top1": Mean.of(hits, weights)}, changed

    def evaluator(
        self,
        model: nn.Module,
        data: ClassificationData,
        dataset: Dataset,
        batch_size: int,
        put: Put,
    ) -> Callable[[Mapping[str, Any]], dict[str, float]]:
        """Top-1, top-5 and the loss without smoothing and mixing, by `eval.classification`."""
        evaluate = eval.classification.evaluator(
            model, data, dataset, batch_size, put, self.loss_name
        )
        return lambda variables: evaluate(variables).figures()

    def pictures(
        self, model: nn.Module, data: ClassificationData, dataset: Dataset, put: Put
    ) -> Draw | None:
        """None: only `eval.classification` draws pictures."""
        return None
