"""What the losses of dense detectors share.

Sums and their normalisers are returned separately, so that they can be added up over parts of a
batch, devices and hosts.
"""

import itertools
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from zoo.losses.mean import Mean, Means
from zoo.models.detection.parts.samples import take_object
from zoo.ops.assign import matched_objects
from zoo.outputs import Targets

Normaliser = Literal["image", "batch"]


class Matches(NamedTuple):
    """The object of each anchor.

    Attributes:
        object: Its index in the targets.
        positive: True for anchors that belong to an object.
        counted: False for anchors that are neither positive nor negative.
        fitting: True for positive anchors that the rule would choose for any object; not for those
            that are positive only because the object has no better one.
    """

    object: Int[Array, "b a"]
    positive: Bool[Array, "b a"]
    counted: Bool[Array, "b a"]
    fitting: Bool[Array, "b a"]


def focal_sums(
    logits: Float[Array, "b a k"],
    matches: Matches,
    targets: Targets,
    *,
    alpha: float,
    gamma: float,
) -> Float[Array, " b"]:
    """The focal loss of the counted anchors and all classes (arXiv 1708.02002, equation 5).

    Args:
        logits: For the sigmoid.
        matches: The object of each anchor.
        targets: The objects.
        alpha: Weight of the right class of a positive anchor; all others have 1 - alpha.
        gamma: Exponent of the probability that is missing.
    """
    logits = logits.astype(jnp.float32)
    labels = take_object(targets.labels, matches.object)
    wanted = jax.nn.one_hot(labels, logits.shape[-1]) * matches.positive[..., None]
    losses = optax.sigmoid_focal_loss(logits, wanted, alpha=alpha, gamma=gamma).sum(axis=-1)
    return jnp.where(matches.counted, losses, 0).sum(axis=1)


def normalised(
    sums: Float[Array, " b"],
    matches: Matches,
    targets: Targets,
    normaliser: Normaliser,
    *,
    more: float = 0.0,
) -> Mean:
    """A loss divided by the number of positive anchors, or by 1 if there are none.

    Args:
        sums: The loss of each image.
        matches: The object of each anchor.
        targets: The objects.
        normaliser: ``image``: the loss of each image is divided by its own number; the mean over
            images is taken. ``batch``: the sum is divided by the number of the whole batch.
        more: Added to the number of the batch; if parts of a batch are computed by themselves, to
            that of each part.
    """
    images = targets.image_valid
    positive = matches.positive.sum(axis=1, dtype=jnp.float32)
    if normaliser == "image":
        return Mean.of(sums / jnp.maximum(positive, 1), images)
    return Mean(jnp.where(images, sums, 0).sum(), jnp.where(images, positive, 0).sum() + more)


@runtime_checkable
class Levels(Protocol):
    """The output of a detector that classifies the anchors of several levels."""

    @property
    def logits(self) -> Float[Array, "b a k"]:
        """Of the classes."""
        ...

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of anchors of each level."""
        ...


def dense_metrics(output: Levels, matches: Matches, targets: Targets) -> Means:
    """Figures that tell whether anchors and objects fit together.

    Returns:
        ``class_accuracy``: share of positive anchors whose most probable class is their object's.
        ``matched_objects``: share of objects with at least one fitting anchor.
        ``positive_level_0`` and so on: positive anchors of the level, as a mean over images.
    """
    images = targets.image_valid
    positive = matches.positive & images[:, None]
    labels = take_object(targets.labels, matches.object)
    hits = positive & (output.logits.argmax(axis=-1) == labels)
    objects = targets.valid & images[:, None]
    found = matched_objects(matches.object, matches.fitting, targets.labels.shape[1]) & objects
    metrics = {
        "class_accuracy": _share(hits, positive),
        "matched_objects": _share(found, objects),
    }
    starts = np.cumsum((0, *output.level_sizes)).tolist()
    for i, (start, stop) in enumerate(itertools.pairwise(starts)):
        count = positive[:, start:stop].sum(axis=1, dtype=jnp.float32)
        metrics[f"positive_level_{i}"] = Mean.of(count, images)
    return metrics


def _share(part: Bool[Array, "b n"], whole: Bool[Array, "b n"]) -> Mean:
    return Mean(part.sum(dtype=jnp.float32), whole.sum(dtype=jnp.float32))
