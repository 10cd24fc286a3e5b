"""Semantic segmentation."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

import eval.semantic
from train.tasks import Batch, Draw, Mean, Put
from zoo.data import Dataset, SegmentationData, normalize, open_segmentation
from zoo.losses.segmentation import LOSSES, pixel_weights
from zoo.ops.resample import center_crop
from zoo.types import InputError

LossName = Literal["cross_entropy", "dice", "focal", "lovasz"]


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """One class a pixel.

    Attributes:
        losses: Names of `zoo.losses.segmentation.LOSSES`, added up.
        class_weights: Weight of each class's pixels in the losses of pixels; none is 1 for all.
    """

    losses: tuple[LossName, ...] = ("cross_entropy", "dice")
    class_weights: tuple[float, ...] = ()

    best: ClassVar[str] = "mIoU"

    def __post_init__(self) -> None:
        if not self.losses or len(set(self.losses)) < len(self.losses):
            raise InputError(f"task.losses are {self.losses}: at least one, and none twice")
        if self.class_weights and (min(self.class_weights) < 0 or not any(self.class_weights)):
            raise InputError(f"task.class_weights are {self.class_weights}, but must be positive")

    def open(self, data: SegmentationData, split: Literal["train", "eval"]) -> Dataset:
        """The examples of a split."""
        return open_segmentation(data, split)

    def model_fields(self, data: SegmentationData, dataset: Dataset) -> dict[str, Any]:
        """As many classes as the data has.

        Raises:
            InputError: If the weights are of another number of classes.
        """
        if self.class_weights and len(self.class_weights) != dataset.num_classes:
            raise InputError(
                f"task.class_weights has {len(self.class_weights)} weights, but there are"
                f" {dataset.num_classes} classes: {', '.join(dataset.class_names)}"
            )
        return {"num_classes": dataset.num_classes}

    def init(self, model: nn.Module, key: jax.Array, batch: Batch) -> Mapping[str, Any]:
        """The model's variables for images of that shape."""
        return model.init(key, jnp.zeros(batch["image"].shape, jnp.float32))

    def prepare(self, data: SegmentationData, model: Any, key: jax.Array, batch: Batch) -> Batch:
        """Normalised images, their labels, and the weight of each pixel."""
        weights = jnp.asarray(self.class_weights, jnp.float32) if self.class_weights else None
        pixels = pixel_weights(batch["label_map"], weights)
        if "border" in batch:
            pixels = jnp.where(pixels > 0, pixels + batch["border"], 0.0)
        return {
            "images": normalize(batch["image"], data.mean, data.std),
            "labels": batch["label_map"],
            "weights": pixels * batch["valid"][:, None, None],
        }

    def loss(
        self, model: nn.Module, variables: Mapping[str, Any], key: jax.Array, batch: Batch
    ) -> tuple[dict[str, Mean], dict[str, Mean], Mapping[str, Any]]:
        """The losses where the model has an output, and the share of pixels that are right."""
        logits, changed = model.apply(
            variables,
            batch["images"],
            train=True,
            rngs={"dropout": key},
            mutable=[name for name in variables if name != "params"],
        )
        size = logits.shape[1:3]
        labels, weights = (center_crop(batch[name], size) for name in ("labels", "weights"))
        losses = {name: Mean.of(*LOSSES[name](logits, labels, weights)) for name in self.losses}
        right = logits.argmax(axis=-1) == labels
        return losses, {"pixel_accuracy": Mean.of(right, weights > 0)}, changed

    def evaluator(
        self, model: nn.Module, data: SegmentationData, dataset: Dataset, batch_size: int, put: Put
    ) -> Callable[[Mapping[str, Any]], dict[str, float]]:
        """The mIoU and the other means over whole images, as `eval.segmentation` has them."""
        evaluate = eval.semantic.evaluator(model, data, dataset, batch_size, put)

        def figures(variables: Mapping[str, Any]) -> dict[str, float]:
            found = evaluate(variables).compute()
            return {name: value for name, value in found.items() if isinstance(value, float)}

        return figures

    def pictures(
        self, model: nn.Module, data: SegmentationData, dataset: Dataset, put: Put
    ) -> Draw | None:
        """The first images of `dataset` with their true and predicted labels."""
        windows = jax.device_count()
        segment = eval.semantic.segmenter(model, data, windows, put)
        return lambda variables, folder: eval.semantic.draw_examples(
            segment, variables, dataset, folder / "predictions.png"
        )
