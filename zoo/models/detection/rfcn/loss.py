"""The loss of R-FCN (arXiv 1605.06409, section 2.3): that of Faster R-CNN, of hard regions only."""

import dataclasses

from zoo.models.detection.parts.losses import TwoStageLoss


@dataclasses.dataclass(frozen=True)
class RFCNLoss(TwoStageLoss):
    """The loss of a Faster R-CNN with other defaults.

    The authors divide the loss of the boxes by `hardest` even if there are fewer regions.

    Attributes:
        box_beta: 1, as in the authors' code.
        hardest: 128, as in the paper.
    """

    box_beta: float = 1.0
    hardest: int | None = 128
