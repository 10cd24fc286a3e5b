"""The loss of R-FCN (arXiv 1605.06409, section 2.3): that of Faster R-CNN, of hard regions only."""

import dataclasses

import jax
from jaxtyping import Array, Float

from zoo.losses.mean import Means
from zoo.models.detection.parts.decode import ROI_CODER
from zoo.models.detection.parts.losses import TwoStageLoss, region_terms
from zoo.models.detection.parts.outputs import RoiSamples
from zoo.models.detection.parts.samples import take
from zoo.ops.box_coder import BoxCoder
from zoo.ops.sampling import sample_hardest
from zoo.outputs import Targets


@dataclasses.dataclass(frozen=True)
class RFCNLoss(TwoStageLoss):
    """The loss of a Faster R-CNN, in which the regions of each image with the largest losses count.

    The loss of a region is its cross-entropy plus, if it is positive, smooth L1 of its box (online
    hard example mining, arXiv 1604.03540). The authors divide the loss of the boxes by `hardest`
    even if there are fewer regions.

    Attributes:
        box_beta: 1, as in the authors' code.
        hardest: Number of regions of an image that count.
    """

    box_beta: float = 1.0
    hardest: int = 128

    def of_regions(
        self,
        class_logits: Float[Array, "b s classes"],
        box_deltas: Float[Array, "b s k 4"],
        samples: RoiSamples,
        targets: Targets,
        coder: BoxCoder = ROI_CODER,
    ) -> tuple[Means, Means]:
        """As in `TwoStageLoss`, for the hardest regions."""
        entropy, distance = region_terms(
            class_logits, box_deltas, samples, targets, beta=self.box_beta, coder=coder
        )
        losses = entropy + distance
        index, chosen = sample_hardest(samples.drawn.astype(int) - 1, losses, self.hardest)
        samples = jax.tree.map(lambda x: take(x, index), samples)
        samples = samples.replace(drawn=chosen, positive=samples.positive & chosen)
        logits, deltas = take(class_logits, index), take(box_deltas, index)
        return super().of_regions(logits, deltas, samples, targets, coder)
