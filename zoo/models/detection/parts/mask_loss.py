"""The loss of Mask R-CNN, and that of its masks alone (arXiv 1703.06870, section 3)."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from zoo.losses.mean import Mean, Means
from zoo.models.detection.parts.losses import TwoStageLoss, required
from zoo.models.detection.parts.outputs import RoiSamples
from zoo.ops.mask_targets import mask_targets
from zoo.outputs import Targets
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class MaskRCNNLoss(TwoStageLoss):
    """The loss of a Faster R-CNN, and that of the masks; the defaults are torchvision's.

    The loss of the masks is the binary cross-entropy of the mask of the object's class, averaged
    over the cells of the positive regions of the batch; 0 if there are none.

    Attributes:
        mask_weight: Weight of the masks.
        binary_masks: Whether the target of a cell is 1 if at least half of it is in the object,
            else 0, as in detectron2; and not the share of the cell that is in the object. With it,
            a cell covers exactly its part of the box, as in detectron2; without, it lies half a
            pixel lower and further right, as in torchvision.
    """

    mask_weight: float = 1.0
    binary_masks: bool = False

    def __call__(self, output: Any, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of a training step with targets.

        Args:
            output: A `TwoStageOutput` with `mask_logits` of the first sampled regions.
            targets: The objects.

        Raises:
            InputError: If the data have no masks.
        """
        losses, metrics = super().__call__(output, targets)
        samples = required(output.roi_samples)
        masks, accuracy = mask_losses(
            output.mask_logits, samples, targets, binary=self.binary_masks
        )
        masks = Mean(self.mask_weight * masks.total, masks.weight)
        return {**losses, "mask": masks}, {**metrics, "mask_accuracy": accuracy}


def mask_losses(
    mask_logits: Float[Array, "b n s s"], samples: RoiSamples, targets: Targets, *, binary: bool
) -> tuple[Mean, Mean]:
    """The loss of the masks, and the share of their cells on the right side of a half.

    Args:
        mask_logits: Of the first sampled regions, for the class of the object.
        samples: The regions.
        targets: Their objects.
        binary: Whether targets are 0 or 1, and lie as in detectron2: see `MaskRCNNLoss`.

    Raises:
        InputError: If the data have no masks.
    """
    if targets.masks is None:
        raise InputError("Mask R-CNN learns masks: set data.masks=true, with data that has them")
    rows, size = mask_logits.shape[1:3]
    wanted = mask_targets(
        targets.masks,
        samples.boxes[:, :rows],
        samples.match[:, :rows],
        size=size,
        frames=targets.mask_frames,
        aligned=binary,
        threshold=0.5 if binary else None,
    )
    logits = mask_logits.astype(jnp.float32)
    positive = samples.positive[:, :rows] & targets.image_valid[:, None]
    weights = jnp.broadcast_to(positive[..., None, None], logits.shape)
    losses = Mean.of(optax.sigmoid_binary_cross_entropy(logits, wanted), weights)
    return losses, Mean.of((logits > 0) == (wanted >= 0.5), weights)
