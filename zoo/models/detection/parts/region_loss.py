"""The loss of detectors that are given regions (Fast R-CNN, arXiv 1504.08083, equation 1)."""

import dataclasses

import jax.numpy as jnp

from zoo.losses.mean import Mean, Means
from zoo.models.detection.parts.losses import region_losses, region_metrics, required
from zoo.models.detection.parts.outputs import RegionOutput
from zoo.outputs import Targets
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class RegionLoss:
    """Cross-entropy of the sampled regions, and smooth L1 of the positive ones' boxes.

    Without refinements of the boxes, as in R-CNN, it is the cross-entropy alone. The defaults are
    the paper's; detectron2 has ``box_beta=0``. As in detectron2, both are divided by the number of
    sampled regions.

    Attributes:
        class_weight: Weight of the cross-entropy.
        box_weight: Weight of smooth L1.
        box_beta: Of smooth L1: see `zoo.losses.boxes.smooth_l1`.
    """

    class_weight: float = 1.0
    box_weight: float = 1.0
    box_beta: float = 1.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if (value := getattr(self, field.name)) < 0:
                raise InputError(f"loss.{field.name} is {value}, but must be at least 0")

    def __call__(self, output: RegionOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a training step with targets.

        Raises:
            ValueError: If the output is not of a training step with targets.
            InputError: If the classifier is not a softmax.
        """
        if output.scores != "softmax":
            raise InputError("only a softmax is trained: python -m train.svms fits the SVMs")
        samples, deltas = required(output.roi_samples), output.box_deltas
        refined = deltas is not None
        if deltas is None:
            deltas = jnp.zeros((*samples.labels.shape, 1, 4))
        sums = region_losses(output.class_logits, deltas, samples, targets, beta=self.box_beta)
        losses = {"class": Mean(self.class_weight * sums.classes, sums.drawn)}
        if refined:
            losses["box"] = Mean(self.box_weight * sums.boxes, sums.drawn)
        return losses, region_metrics(sums, targets)
