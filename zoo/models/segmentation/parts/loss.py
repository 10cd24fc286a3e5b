"""The loss of segmentation models: a sum of losses that are chosen by name."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from zoo.losses.mean import Mean, Means
from zoo.losses.segmentation import LOSSES, pixel_weights
from zoo.ops.resample import center_crop
from zoo.outputs import LabelMaps
from zoo.types import InputError

LossName = Literal["cross_entropy", "dice", "focal", "lovasz"]


@dataclasses.dataclass(frozen=True)
class PixelLoss:
    """The loss of models that predict one class per pixel.

    Attributes:
        losses: Names in `zoo.losses.segmentation.LOSSES`; these losses are added up.
        class_weights: Weight of each class's pixels in the losses of pixels; empty: 1 for all.
    """

    losses: tuple[LossName, ...] = ("cross_entropy", "dice")
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.losses or len(set(self.losses)) < len(self.losses):
            raise InputError(f"loss.losses are {self.losses}: at least one, and none twice")
        if self.class_weights and (min(self.class_weights) < 0 or not any(self.class_weights)):
            raise InputError(f"loss.class_weights are {self.class_weights}, but must be positive")

    def check_classes(self, class_names: tuple[str, ...]) -> None:
        """Raises InputError if there are weights, but not one for each class."""
        if self.class_weights and len(self.class_weights) != len(class_names):
            raise InputError(
                f"task.loss.class_weights has {len(self.class_weights)} weights, but there are"
                f" {len(class_names)} classes: {', '.join(class_names)}"
            )

    def weights(self, targets: LabelMaps) -> Float[Array, "b h w"]:
        """The weight of each pixel: its class's plus the border's; 0 where the pixel is ignored."""
        weights = jnp.asarray(self.class_weights, jnp.float32) if self.class_weights else None
        pixels = pixel_weights(targets.labels, weights)
        if targets.border is not None:
            pixels = jnp.where(pixels > 0, pixels + targets.border, 0.0)
        return pixels * targets.valid[:, None, None]

    def __call__(self, logits: Float[Array, "b h w k"], targets: LabelMaps) -> tuple[Means, Means]:
        """The losses of the pixels that have an output, and the share of correct pixels."""
        size = logits.shape[1:3]
        labels = center_crop(targets.labels, size)
        weights = center_crop(self.weights(targets), size)
        losses = {name: Mean.of(*LOSSES[name](logits, labels, weights)) for name in self.losses}
        right = logits.argmax(axis=-1) == labels
        return losses, {"pixel_accuracy": Mean.of(right, weights > 0)}
