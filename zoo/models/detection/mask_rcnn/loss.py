"""The loss of Mask R-CNN (arXiv 1703.06870, section 3)."""

import dataclasses

import jax.numpy as jnp
import optax

from zoo.losses.mean import Mean, Means
from zoo.models.detection.mask_rcnn.model import MaskRCNNOutput
from zoo.models.detection.parts.losses import TwoStageLoss, required
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

    def __call__(self, output: MaskRCNNOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a training step with targets.

        Raises:
            InputError: If the data have no masks.
        """
        losses, metrics = super().__call__(output, targets)
        masks, accuracy = self.of_masks(output, targets)
        return {**losses, "mask": masks}, {**metrics, "mask_accuracy": accuracy}

    def of_masks(self, output: MaskRCNNOutput, targets: Targets) -> tuple[Mean, Mean]:
        """The loss of the masks, and the share of their cells on the right side of a half."""
        if targets.masks is None:
            raise InputError(
                "Mask R-CNN learns masks: set data.masks=true, with data that has them"
            )
        samples = required(output.roi_samples)
        rows, size = output.mask_logits.shape[1:3]
        wanted = mask_targets(
            targets.masks,
            samples.boxes[:, :rows],
            samples.match[:, :rows],
            size=size,
            aligned=self.binary_masks,
            threshold=0.5 if self.binary_masks else None,
        )
        logits = output.mask_logits.astype(jnp.float32)
        positive = samples.positive[:, :rows] & targets.image_valid[:, None]
        weights = jnp.broadcast_to(positive[..., None, None], logits.shape)
        losses = Mean.of(optax.sigmoid_binary_cross_entropy(logits, wanted), weights)
        right = (logits > 0) == (wanted >= 0.5)
        return Mean(self.mask_weight * losses.total, losses.weight), Mean.of(right, weights)
