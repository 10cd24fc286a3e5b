"""Losses of two-stage detectors (Faster R-CNN, arXiv 1506.01497, equation 1).

Sums and their normalisers are returned separately, so that they can be added up over parts of a
batch, devices and hosts.
"""

import dataclasses
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from zoo.losses.boxes import smooth_l1
from zoo.losses.mean import Mean, Means
from zoo.models.detection.parts.decode import ROI_CODER
from zoo.models.detection.parts.outputs import AnchorSamples, RoiSamples, TwoStageOutput
from zoo.models.detection.parts.samples import take, take_object
from zoo.ops.box_coder import BoxCoder
from zoo.ops.sampling import sample_hardest
from zoo.outputs import Targets
from zoo.types import check_not_negative

_Samples = TypeVar("_Samples")


@dataclasses.dataclass(frozen=True)
class TwoStageLoss:
    """The loss of a Faster R-CNN; the defaults are torchvision's, `DETECTRON2_LOSS` detectron2's.

    Attributes:
        objectness_weight: Weight of the anchors' cross-entropy.
        rpn_box_weight: Weight of the boxes of the positive anchors.
        class_weight: Weight of the regions' cross-entropy.
        box_weight: Weight of the boxes of the positive regions.
        rpn_beta: Of smooth L1 for anchors: see `zoo.losses.boxes.smooth_l1`.
        box_beta: Of smooth L1 for regions.
        fixed_rpn_normaliser: Whether the losses of the anchors are divided by the number of anchors
            that should be drawn, not by that of those that were drawn.
        hardest: Number of regions of an image that count: those with the largest sum of
            cross-entropy and smooth L1 (online hard example mining, arXiv 1604.03540). None: all.
    """

    objectness_weight: float = 1.0
    rpn_box_weight: float = 1.0
    class_weight: float = 1.0
    box_weight: float = 1.0
    rpn_beta: float = 1 / 9
    box_beta: float = 1 / 9
    fixed_rpn_normaliser: bool = False
    hardest: int | None = None

    def __post_init__(self) -> None:
        check_not_negative(self, (field.name for field in dataclasses.fields(self)), "loss.")

    def __call__(self, output: TwoStageOutput, targets: Targets) -> tuple[Means, Means]:
        """Losses and metrics of the output of a training step with targets."""
        rpn = self.of_anchors(output, targets)
        losses, metrics = self.of_regions(
            output.class_logits, output.box_deltas, required(output.roi_samples), targets
        )
        return {**rpn, **losses}, metrics

    def of_anchors(self, output: TwoStageOutput, targets: Targets) -> Means:
        """The two losses of the proposals."""
        samples = required(output.anchor_samples)
        sums = anchor_losses(output, samples, targets, beta=self.rpn_beta)
        count = sums.drawn
        if self.fixed_rpn_normaliser:
            count = targets.image_valid.sum(dtype=jnp.float32) * samples.index.shape[1]
        return {
            "objectness": Mean(self.objectness_weight * sums.classes, count),
            "rpn_box": Mean(self.rpn_box_weight * sums.boxes, count),
        }

    def of_regions(
        self,
        class_logits: Float[Array, "b s classes"],
        box_deltas: Float[Array, "b s k 4"],
        samples: RoiSamples,
        targets: Targets,
        coder: BoxCoder = ROI_CODER,
    ) -> tuple[Means, Means]:
        """The two losses, and metrics, of a head that classifies regions and refines boxes."""
        parts = class_logits, box_deltas, samples
        rules = {"beta": self.box_beta, "coder": coder}
        if self.hardest is not None:
            chosen, samples = hardest_regions(*parts, targets, self.hardest, **rules)
            parts = take(class_logits, chosen), take(box_deltas, chosen), samples
        sums = region_losses(*parts, targets, **rules)
        losses = {
            "class": Mean(self.class_weight * sums.classes, sums.drawn),
            "box": Mean(self.box_weight * sums.boxes, sums.drawn),
        }
        return losses, region_metrics(sums, targets)


DETECTRON2_LOSS = TwoStageLoss(rpn_beta=0.0, box_beta=0.0, fixed_rpn_normaliser=True)


class Sums(NamedTuple):
    """Sums over a batch, without the losses' weights.

    Attributes:
        classes: Of the cross-entropies of the drawn candidates.
        boxes: Of smooth L1 of the four deltas of the positive ones.
        drawn: Number of drawn candidates.
        positive: Number of positive ones.
        hits: Number of positive ones whose most probable class is that of their object.
    """

    classes: Float[Array, ""]
    boxes: Float[Array, ""]
    drawn: Float[Array, ""]
    positive: Float[Array, ""]
    hits: Float[Array, ""]


def region_metrics(sums: Sums, targets: Targets) -> Means:
    """The share of positive regions whose class is right, and their number in an image."""
    return {
        "class_accuracy": Mean(sums.hits, sums.positive),
        "positive_regions": Mean(sums.positive, targets.image_valid.sum(dtype=jnp.float32)),
    }


def anchor_losses(
    output: TwoStageOutput, samples: AnchorSamples, targets: Targets, *, beta: float
) -> Sums:
    """Binary cross-entropy and smooth L1 of the sampled anchors."""
    images = targets.image_valid[:, None]
    drawn, positive = samples.drawn & images, samples.positive & images
    logits = take(output.rpn_logits.astype(jnp.float32), samples.index)
    entropy = optax.sigmoid_binary_cross_entropy(logits, samples.positive.astype(jnp.float32))

    wanted = BoxCoder().encode(
        take_object(targets.boxes, samples.match), take(output.anchors, samples.index)
    )
    errors = take(output.rpn_deltas.astype(jnp.float32), samples.index) - wanted
    hits = positive & (logits > 0)
    return _sums(entropy, smooth_l1(errors, beta).sum(axis=-1), drawn, positive, hits)


def region_losses(
    class_logits: Float[Array, "b s classes"],
    box_deltas: Float[Array, "b s k 4"],
    samples: RoiSamples,
    targets: Targets,
    *,
    beta: float,
    coder: BoxCoder = ROI_CODER,
) -> Sums:
    """Cross-entropy and smooth L1 of the sampled regions; `region_terms` has the arguments."""
    images = targets.image_valid[:, None]
    drawn, positive = samples.drawn & images, samples.positive & images
    terms = region_terms(class_logits, box_deltas, samples, targets, beta=beta, coder=coder)
    hits = positive & (class_logits.argmax(axis=-1) == samples.labels)
    return _sums(*terms, drawn, positive, hits)


def region_terms(
    class_logits: Float[Array, "b s classes"],
    box_deltas: Float[Array, "b s k 4"],
    samples: RoiSamples,
    targets: Targets,
    *,
    beta: float,
    coder: BoxCoder = ROI_CODER,
) -> tuple[Float[Array, "b s"], Float[Array, "b s"]]:
    """Cross-entropy of each region, and smooth L1 of the box of each positive one, else 0.

    Args:
        class_logits: Logits of the classes and, last, of the background.
        box_deltas: Refinements, for each class or one for all.
        samples: The regions; the values of those that are not drawn mean nothing.
        targets: Their objects.
        beta: Of smooth L1.
        coder: How boxes are encoded.
    """
    logits = class_logits.astype(jnp.float32)
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, samples.labels)

    wanted = coder.encode(take_object(targets.boxes, samples.match), samples.boxes)
    count = box_deltas.shape[2]
    column = jnp.minimum(samples.labels, count - 1)[..., None, None]
    deltas = jnp.take_along_axis(box_deltas.astype(jnp.float32), column, axis=2)[:, :, 0]
    distance = smooth_l1(deltas - wanted, beta).sum(axis=-1)
    return entropy, jnp.where(samples.positive, distance, 0)


def hardest_regions(
    class_logits: Float[Array, "b s classes"],
    box_deltas: Float[Array, "b s k 4"],
    samples: RoiSamples,
    targets: Targets,
    num: int,
    *,
    beta: float,
    coder: BoxCoder = ROI_CODER,
) -> tuple[Int[Array, "b h"], RoiSamples]:
    """The regions of each image with the largest losses: their numbers, and the samples of these.

    Args:
        class_logits: As in `region_terms`.
        box_deltas: Likewise.
        samples: Likewise.
        targets: Likewise.
        num: Number of regions of an image, h.
        beta: As in `region_terms`.
        coder: Likewise.
    """
    terms = region_terms(class_logits, box_deltas, samples, targets, beta=beta, coder=coder)
    index, drawn = sample_hardest(samples.drawn.astype(int) - 1, terms[0] + terms[1], num)
    samples = jax.tree.map(lambda x: take(x, index), samples)
    return index, samples.replace(drawn=drawn, positive=samples.positive & drawn)


def _sums(
    entropy: Float[Array, "b s"],
    distance: Float[Array, "b s"],
    drawn: Bool[Array, "b s"],
    positive: Bool[Array, "b s"],
    hits: Bool[Array, "b s"],
) -> Sums:
    """Sums over the candidates that count."""
    totals = (
        jnp.where(drawn, entropy, 0),
        jnp.where(positive, distance, 0),
        *(flags.astype(jnp.float32) for flags in (drawn, positive, hits)),
    )
    return Sums(*(total.sum() for total in totals))


def required(samples: _Samples | None) -> _Samples:
    """The samples of training; raises ValueError if the model was called without targets."""
    if samples is None:
        raise ValueError("the loss needs the output of a call with train=True and targets")
    return samples
