"""Cascade R-CNN.

Paper: "Cascade R-CNN: Delving into High Quality Object Detection", arXiv 1712.00726, section 4 and
figure 3d. Reference: detectron2's `CascadeROIHeads`, with which outputs and losses agree.

Each stage classifies the regions and refines them, with one box for all classes; the refined boxes
are the regions of the next stage, which asks for a larger overlap. The stages' losses are added,
and each has a third of its gradient in the feature maps: as if the losses were averaged, but the
heads learned at the full rate.

Deviations: mmdet samples regions, and adds the true boxes, in every stage, and does not scale the
gradient but the losses. The outputs do not depend on that.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from zoo.models.detection.faster_rcnn.model import FasterRCNN, Features
from zoo.models.detection.parts.cascade import CascadeOutput, MeanOf
from zoo.models.detection.parts.inputs import clip_to_sizes
from zoo.models.detection.parts.outputs import CoderWeights, Regions, RoiSamples
from zoo.models.detection.parts.samples import relabel
from zoo.ops.box_coder import BoxCoder
from zoo.outputs import Targets
from zoo.types import InputError, check_choice


class _Stage(NamedTuple):
    """What a stage sees and predicts."""

    boxes: Float[Array, "b r 4"]
    valid: Bool[Array, "b r"]
    logits: Float[Array, "b r classes"]
    deltas: Float[Array, "b r 4"]
    samples: RoiSamples | None


class CascadeRCNN(FasterRCNN):
    """Images to proposals, and these in three stages to classes and boxes.

    Attributes:
        ious: Regions of the second and of the third stage are positive if their largest IoU with
            an object is at least this. That of the first is ``high`` in `roi_sampling`.
        coder_weights: Weights of dx, dy, dw and dh in each stage: the deltas of better regions are
            smaller (section 4.1).
        mean_of: Whether a detection's probabilities are the mean of the stages' probabilities, as
            in detectron2, or those of the mean of their logits, as in mmdet.
    """

    ious: tuple[float, ...] = (0.6, 0.7)
    coder_weights: tuple[CoderWeights, ...] = (
        (10.0, 10.0, 5.0, 5.0),
        (20.0, 20.0, 10.0, 10.0),
        (30.0, 30.0, 15.0, 15.0),
    )
    mean_of: MeanOf = "probabilities"

    def setup_heads(self) -> None:
        """Makes a head for each stage.

        Raises:
            InputError: If there is not a coder for each stage, or `mean_of` has another value.
        """
        check_choice("mean_of", self.mean_of, MeanOf)
        count = 1 + len(self.ious)
        if count != len(self.coder_weights):
            raise InputError(
                f"coder_weights has {len(self.coder_weights)} stages, but ious is for {count}"
            )
        self.cascade = [self.make_box(agnostic=True) for _ in range(count)]

    def classify(
        self, features: Features, targets: Targets | None = None, *, train: bool = False
    ) -> CascadeOutput:
        """The predictions of `__call__` for the features of a batch."""
        regions = self.propose(features, targets, train=train)
        samples = self.choose(regions, targets) if train and targets is not None else None
        stages = _stack(self.refine(features, regions, samples, targets, train=train))
        return CascadeOutput(
            regions.logits,
            regions.deltas,
            jnp.broadcast_to(regions.anchors, regions.deltas.shape),
            *stages[:-1],
            regions.samples,
            stages.samples,
            self.coder_weights,
            self.mean_of,
        )

    def refine(
        self,
        features: Features,
        regions: Regions,
        samples: RoiSamples | None,
        targets: Targets | None,
        *,
        train: bool = False,
    ) -> list[_Stage]:
        """The stages one after another.

        Args:
            features: Of the images.
            regions: The proposals, which the first stage sees if there are no samples.
            samples: In training with targets: what the first stage sees. Each later one sees the
                same regions, refined and compared with the objects anew.
            targets: The objects.
            train: Whether the heads are in training.
        """
        boxes, valid = regions.boxes, regions.valid
        if samples is not None:
            boxes, valid = samples.boxes, samples.drawn
        maps = features.maps
        if train:
            maps = [_scale_gradient(x, 1 / len(self.cascade)) for x in maps]
        stages = []
        for k, head in enumerate(self.cascade):
            if k:
                coder = BoxCoder(self.coder_weights[k - 1])
                boxes = refined(stages[-1], coder, features.sizes)
            if k and samples is not None and targets is not None:
                samples = relabel(boxes, valid, targets, self.num_classes, self.ious[k - 1])
                valid = samples.drawn
            logits, deltas = head(maps, self.pooled_strides, boxes, valid, train=train)
            stages.append(_Stage(boxes, valid, logits, deltas[:, :, 0], samples))
        return stages


def refined(stage: _Stage, coder: BoxCoder, sizes: Int[Array, "b 2"]) -> Float[Array, "b r 4"]:
    """The boxes that a stage predicts, within the images; without gradient."""
    boxes = coder.decode(stage.deltas, stage.boxes)
    return jax.lax.stop_gradient(clip_to_sizes(boxes, sizes))


def _stack(stages: Sequence[_Stage]) -> _Stage:
    """The arrays of all stages, with a new second axis."""
    return jax.tree.map(lambda *parts: jnp.stack(parts, axis=1), *stages)


def _scale_gradient(x: Float[Array, "*d"], factor: float) -> Float[Array, "*d"]:
    """The same values; their gradient is multiplied."""
    constant = jax.lax.stop_gradient(x)
    return constant + factor * (x - constant)
