"""The loss of a cascade of box heads with masks (arXiv 1906.09756; masks: arXiv 1703.06870)."""

import dataclasses

import jax

from zoo.losses.mean import Mean, Means
from zoo.models.detection.mask_rcnn.model import MaskRCNNOutput
from zoo.models.detection.parts.cascade_loss import CascadeLoss
from zoo.models.detection.parts.losses import required
from zoo.models.detection.parts.mask_loss import mask_losses
from zoo.outputs import Targets


@dataclasses.dataclass(frozen=True)
class CascadeMaskLoss(CascadeLoss):
    """The loss of a Cascade R-CNN, and that of the masks; the defaults are detectron2's.

    Attributes:
        mask_weight: Weight of the masks.
        binary_masks: Whether targets of masks are 0 or 1: see `MaskRCNNLoss`.
    """

    mask_weight: float = 1.0
    binary_masks: bool = True

    def __call__(self, output: MaskRCNNOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a training step with targets.

        Raises:
            InputError: If the data have no masks.
        """
        losses, metrics = super().__call__(output, targets)
        first = jax.tree.map(lambda x: x[:, 0], required(output.roi_samples))
        masks, accuracy = mask_losses(output.mask_logits, first, targets, binary=self.binary_masks)
        masks = Mean(self.mask_weight * masks.total, masks.weight)
        return {**losses, "mask": masks}, {**metrics, "mask_accuracy": accuracy}
