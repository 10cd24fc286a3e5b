"""The loss of Mask R-CNN (arXiv 1703.06870, section 3)."""

import dataclasses

from zoo.losses.mean import Mean, Means
from zoo.models.detection.mask_rcnn.model import MaskRCNNOutput
from zoo.models.detection.parts.losses import TwoStageLoss, required
from zoo.models.detection.parts.mask_loss import mask_losses
from zoo.outputs import Targets


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
        samples = required(output.roi_samples)
        masks, accuracy = mask_losses(
            output.mask_logits, samples, targets, binary=self.binary_masks
        )
        masks = Mean(self.mask_weight * masks.total, masks.weight)
        return {**losses, "mask": masks}, {**metrics, "mask_accuracy": accuracy}
