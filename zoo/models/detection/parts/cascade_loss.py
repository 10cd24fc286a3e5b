"""The loss of a cascade of box heads (Cascade R-CNN, arXiv 1712.00726, equation 8)."""

import dataclasses

import jax

from zoo.losses.mean import Mean, Means
from zoo.models.detection.parts.losses import DETECTRON2_LOSS, TwoStageLoss, required
from zoo.models.detection.parts.outputs import TwoStageOutput
from zoo.ops.box_coder import BoxCoder
from zoo.outputs import Targets
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class CascadeLoss:
    """The loss of the proposals and of every stage; the defaults are detectron2's.

    mmdet has ``each=TwoStageLoss(box_beta=1.0)`` and ``stage_weights=(1.0, 0.5, 0.25)``.

    Attributes:
        each: The loss of the proposals and of a stage.
        stage_weights: Weights of the stages' losses.
    """

    each: TwoStageLoss = DETECTRON2_LOSS
    stage_weights: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if min(self.stage_weights) < 0:
            raise InputError(f"loss.stage_weights are {self.stage_weights}, but must be at least 0")

    def __call__(self, output: TwoStageOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a training step with targets, for each stage.

        Args:
            output: Of a model with a cascade of stages: see `CascadeOutput`.
            targets: The objects.

        Raises:
            ValueError: If there are not as many weights as stages.
        """
        losses, metrics = self.each.of_anchors(output, targets), {}
        stages = zip(self.stage_weights, output.coder_weights, strict=True)
        for k, (weight, coder_weights) in enumerate(stages):
            coder = BoxCoder(coder_weights)
            samples = jax.tree.map(lambda x, k=k: x[:, k], required(output.roi_samples))
            logits, deltas = output.class_logits[:, k], output.box_deltas[:, k, :, None]
            found, more = self.each.of_regions(logits, deltas, samples, targets, coder)
            losses |= {
                f"{name}_{k}": Mean(weight * loss.total, loss.weight)
                for name, loss in found.items()
            }
            metrics |= {f"{name}_{k}": metric for name, metric in more.items()}
        return losses, metrics
