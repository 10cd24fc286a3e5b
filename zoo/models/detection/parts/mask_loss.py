"""The loss of mask heads (Mask R-CNN, arXiv 1703.06870, section 3)."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from zoo.losses.mean import Mean
from zoo.models.detection.parts.outputs import RoiSamples
from zoo.ops.mask_targets import mask_targets
from zoo.outputs import Targets
from zoo.types import InputError


def mask_losses(
    mask_logits: Float[Array, "b n s s"], samples: RoiSamples, targets: Targets, *, binary: bool
) -> tuple[Mean, Mean]:
    """The loss of the masks, and the share of their cells on the right side of a half.

    Args:
        mask_logits: Of the first sampled regions, for the class of the object.
        samples: The regions.
        targets: Their objects.
        binary: Whether targets are 0 or 1, and lie as in detectron2: see `MaskRCNNLoss`.

    Raises:
        InputError: If the data have no masks.
    """
    if targets.masks is None:
        raise InputError("Mask R-CNN learns masks: set data.masks=true, with data that has them")
    rows, size = mask_logits.shape[1:3]
    wanted = mask_targets(
        targets.masks,
        samples.boxes[:, :rows],
        samples.match[:, :rows],
        size=size,
        aligned=binary,
        threshold=0.5 if binary else None,
    )
    logits = mask_logits.astype(jnp.float32)
    positive = samples.positive[:, :rows] & targets.image_valid[:, None]
    weights = jnp.broadcast_to(positive[..., None, None], logits.shape)
    losses = Mean.of(optax.sigmoid_binary_cross_entropy(logits, wanted), weights)
    return losses, Mean.of((logits > 0) == (wanted >= 0.5), weights)
