"""Semantic segmentation."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

import eval.semantic
from train.tasks import Batch, Draw, Means, Put, changing
from zoo import family
from zoo.data import Dataset, SegmentationData, normalize, open_segmentation
from zoo.models.segmentation.parts.loss import PixelLoss
from zoo.outputs import LabelMaps


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """One class for each pixel.

    Attributes:
        loss: The settings of the loss of the model's family, such as
            `zoo.models.segmentation.parts.loss.PixelLoss`.
    """

    loss: Any = dataclasses.field(default_factory=PixelLoss)

    kind: ClassVar[family.Task] = "segmentation"
    best: ClassVar[str] = "mIoU"

    def open(self, data: SegmentationData, split: Literal["train", "eval"]) -> Dataset:
        """The examples of a split."""
        return open_segmentation(data, split)

    def model_fields(self, data: SegmentationData, dataset: Dataset) -> dict[str, Any]:
        """The number of classes of the data.

        Raises:
            InputError: If the loss has class weights for a different number of classes.
        """
        self.loss.check_classes(dataset.class_names)
        return {"num_classes": dataset.num_classes}

    def init(self, model: nn.Module, key: jax.Array, batch: Batch) -> Mapping[str, Any]:
        """The initial variables of the model for images of this shape."""
        return model.init(key, jnp.zeros(batch["image"].shape, jnp.float32))

    def prepare(self, data: SegmentationData, model: Any, key: jax.Array, batch: Batch) -> Batch:
        """Normalised images, and the class of each pixel."""
        return {
            "images": normalize(batch["image"], data.mean, data.std),
            "targets": LabelMaps(batch["label_map"], batch["valid"], batch.get("border")),
        }

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """The images."""
        return (batch["images"],)

    def compute_loss(
        self, model: nn.Module, variables: Mapping[str, Any], key: jax.Array, batch: Batch
    ) -> tuple[Means, Means, Mapping[str, Any]]:
        """The losses and metrics that the family's loss computes."""
        logits, changed = model.apply(
            variables,
            *self.inputs(batch),
            train=True,
            rngs={"dropout": key},
            mutable=changing(variables),
        )
        return *self.loss(logits, batch["targets"]), changed

    def evaluator(
        self, model: nn.Module, data: SegmentationData, dataset: Dataset, batch_size: int, put: Put
    ) -> Callable[[Mapping[str, Any]], dict[str, float]]:
        """The mIoU and the other means over whole images, as in `eval.segmentation`."""
        evaluate = eval.semantic.evaluator(model, data, dataset, batch_size, put)

        def figures(variables: Mapping[str, Any]) -> dict[str, float]:
            found = evaluate(variables).compute()
            return {name: value for name, value in found.items() if isinstance(value, float)}

        return figures

    def pictures(
        self, model: nn.Module, data: SegmentationData, dataset: Dataset, put: Put
    ) -> Draw | None:
        """Draws the first images of `dataset` with their true and predicted labels."""
        windows = jax.device_count()
        segment = eval.semantic.segmenter(model, data, windows, put)
        return lambda variables, folder: eval.semantic.draw_examples(
            segment, variables, dataset, folder / "predictions.png"
        )
