"""Image classification."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import eval.classification
from train.tasks import Batch, Draw, Mean, Put
from zoo.data import ClassificationData, Dataset, mix_batch, normalize, open_classification
from zoo.losses.classification import LOSSES
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class Classification:
    """One class an image.

    Attributes:
        loss_name: Cross-entropy of the ``softmax``, or with ``sigmoid`` a binary one of each class,
            summed up.
        label_smoothing: Share of the target that is spread evenly over the classes
            (arXiv 1512.00567).
    """

    loss_name: Literal["softmax", "sigmoid"] = "softmax"
    label_smoothing: float = 0.0

    best: ClassVar[str] = "top1"

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing is {self.label_smoothing}, but must be in 0..1")

    def open(self, data: ClassificationData, split: Literal["train", "eval"]) -> Dataset:
        """The examples of a split."""
        return open_classification(data, split)

    def model_fields(self, data: ClassificationData, dataset: Dataset) -> dict[str, Any]:
        """As many classes as the data has, and positions for its images."""
        return {"num_classes": dataset.num_classes, "image_size": data.image_size}

    def init(self, model: nn.Module, key: jax.Array, batch: Batch) -> Mapping[str, Any]:
        """The model's variables for images of that shape."""
        return model.init(key, jnp.zeros(batch["image"].shape, jnp.float32))

    def prepare(self, data: ClassificationData, model: Any, key: jax.Array, batch: Batch) -> Batch:
        """Normalised images, and targets ``[b k]`` after smoothing and mixing.

        A row of targets sums to 1, and to 0 where the example is not valid.
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

    def loss(
        self, model: nn.Module, variables: Mapping[str, Any], key: jax.Array, batch: Batch
    ) -> tuple[dict[str, Mean], dict[str, Mean], Mapping[str, Any]]:
        """Cross-entropy over the valid examples, and top-1 on what was trained on."""
        logits, changed = model.apply(
            variables,
            batch["images"],
            train=True,
            rngs={"dropout": key},
            mutable=[name for name in variables if name != "params"],
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
        """Top-1, top-5 and the loss on whole targets, as `eval.classification` has them."""
        evaluate = eval.classification.evaluator(
            model, data, dataset, batch_size, put, self.loss_name
        )
        return lambda variables: evaluate(variables).figures()

    def pictures(
        self, model: nn.Module, data: ClassificationData, dataset: Dataset, put: Put
    ) -> Draw | None:
        """None: `eval.classification` draws."""
        return None
