"""Losses of semantic segmentation: each returns values and weights; the loss is the weighted mean.

The mean over a batch is ``sum(values * weights) / sum(weights)``, so that the two sums can be added
up over parts of a batch, devices and hosts. Pixels with an ignored label have weight 0. Where the
values belong to classes, a class that an image does not show has weight 0. `zoo.ops.borders`
computes the U-Net paper's weights for the background between objects.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from zoo.types import IGNORE_LABEL

Labels = Integer[Array, "b h w"]
Logits = Float[Array, "b h w k"]


class Weighted(NamedTuple):
    """Losses of pixels ``[b h w]``, or of classes in images ``[b k]``, and the weight of each."""

    values: Float[Array, "..."]
    weights: Float[Array, "..."]

    def mean(self) -> Float[Array, ""]:
        """The loss; 0 if the sum of the weights is 0."""
        total = self.weights.sum()
        return (self.values * self.weights).sum() / jnp.where(total == 0, 1.0, total)


def pixel_weights(
    labels: Labels,
    class_weights: Float[Array, " k"] | None = None,
    ignore_label: int = IGNORE_LABEL,
) -> Float[Array, "b h w"]:
    """The weight of each pixel: of its class, or 1 if absent; 0 where the label is ignored.

    With these weights the mean of `cross_entropy` equals torch's ``CrossEntropyLoss(weight)``.
    """
    counts = labels != ignore_label
    if class_weights is None:
        return counts.astype(jnp.float32)
    return jnp.where(counts, class_weights[jnp.where(counts, labels, 0)], 0.0)


def _log_likelihood(logits: Logits, labels: Labels) -> Float[Array, "b h w"]:
    """Logarithm of the probability of each pixel's class; 0 where the label is no class."""
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    # One-hot, because the gradient of indexing is a scatter, which is slow on every backend.
    right = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jnp.where(right, log_probabilities, 0.0).sum(axis=-1)


def cross_entropy(logits: Logits, labels: Labels, weights: Float[Array, "b h w"]) -> Weighted:
    """Cross-entropy of each pixel's softmax.

    Args:
        logits: Any float dtype; the loss is computed in float32.
        labels: Classes, 0 to k - 1, wherever the weight is not 0.
        weights: See `pixel_weights`.
    """
    return Weighted(-_log_likelihood(logits, labels), weights)


def focal(
    logits: Logits, labels: Labels, weights: Float[Array, "b h w"], gamma: float = 2.0
) -> Weighted:
    """Cross-entropy times (1 - p) ** gamma; p is the true class's probability (arXiv 1708.02002).

    This is equation 4 with a softmax; with gamma 0 it equals `cross_entropy`.
    """
    log_p = _log_likelihood(logits, labels)
    # expm1 computes 1 - p without loss of digits, and with a finite gradient, where p is nearly 1.
    missing = jnp.maximum(-jnp.expm1(log_p), 1e-12)
    return Weighted(-(missing**gamma) * log_p, weights)


def _shares(
    logits: Logits, labels: Labels, weights: Float[Array, "b h w"]
) -> tuple[Float[Array, "b n k"], Float[Array, "b n k"], Float[Array, "b k"]]:
    """Probabilities, one-hot labels (both 0 for pixels of weight 0), and which classes occur."""
    b, k = logits.shape[0], logits.shape[-1]
    counts = (weights > 0).reshape(b, -1, 1)
    probabilities = jax.nn.softmax(logits.astype(jnp.float32)).reshape(b, -1, k) * counts
    targets = jax.nn.one_hot(labels.reshape(b, -1), k) * counts
    return probabilities, targets, targets.max(axis=1)


def dice(
    logits: Logits, labels: Labels, weights: Float[Array, "b h w"], smooth: float = 1.0
) -> Weighted:
    """1 - Dice of the probabilities, for each class that an image shows (arXiv 1606.04797).

    ``1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth)`` over the pixels whose weight is not
    0. The denominator sums p and t, as most code does; the paper sums their squares.
    """
    probabilities, targets, present = _shares(logits, labels, weights)
    common = (probabilities * targets).sum(axis=1)
    total = probabilities.sum(axis=1) + targets.sum(axis=1)
    return Weighted(1 - (2 * common + smooth) / (total + smooth), present)


def lovasz(logits: Logits, labels: Labels, weights: Float[Array, "b h w"]) -> Weighted:
    """Lovász-softmax, a convex surrogate of 1 - IoU, for each class of an image (arXiv 1705.08790).

    Algorithm 1 on ``|t - p|`` over the pixels whose weight is not 0.
    """
    probabilities, targets, present = _shares(logits, labels, weights)
    errors = jnp.abs(targets - probabilities)  # 0 for pixels of weight 0: sorted to the end
    order = jnp.argsort(-errors, axis=1)
    errors, targets = (jnp.take_along_axis(x, order, axis=1) for x in (errors, targets))
    total = targets.sum(axis=1, keepdims=True)
    intersection = total - jnp.cumsum(targets, axis=1)
    union = total + jnp.cumsum(1 - targets, axis=1)
    jaccard = 1 - intersection / union  # after the first 1, 2, ... errors
    gain = jnp.diff(jaccard, axis=1, prepend=0.0)
    return Weighted((errors * jax.lax.stop_gradient(gain)).sum(axis=1), present)


LOSSES = {"cross_entropy": cross_entropy, "dice": dice, "focal": focal, "lovasz": lovasz}
