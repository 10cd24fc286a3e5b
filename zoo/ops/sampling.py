"""Chooses a fixed number of candidates of each image for the losses of region detectors."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

_Chosen = tuple[Int[Array, "*b s"], Bool[Array, "*b s"]]


def sample_balanced(
    labels: Int[Array, "*b n"],
    num: int,
    positive_fraction: float,
    keys: Key[Array, "*b"] | None = None,
) -> tuple[Int[Array, "*b s"], Bool[Array, "*b s"]]:
    """Draws candidates without replacement, at most a fraction of them positive.

    As in Faster R-CNN (arXiv 1506.01497) and torchvision: at most ``int(num * positive_fraction)``
    positive candidates, and negative ones up to `num`. The positive ones come first, so that losses
    of positive candidates need only the first ``int(num * positive_fraction)`` rows.

    >>> index, sampled = sample_balanced(jnp.array([0, 1, -1, 0, 1, 1]), 4, 0.5)
    >>> index.tolist(), sampled.tolist()
    ([1, 4, 0, 3], [True, True, True, True])

    Args:
        labels: 1 for positive, 0 for negative, -1 for ignored candidates, as from `assign_by_iou`.
        num: How many to draw of each image, s; it may be larger than n.
        positive_fraction: 0 to 1.
        keys: A random key for each image; all equally large samples are equally likely. None takes
            the first candidates instead.

    Returns:
        Indices of the candidates; and True where a candidate was drawn, False for the filling at
        the end if there are too few, whose indices are in range as well.
    """
    if keys is None:
        order = jnp.broadcast_to(-jnp.arange(labels.shape[-1], dtype=jnp.float32), labels.shape)
    else:
        flat = keys.reshape(-1)
        order = jax.vmap(lambda key: jax.random.uniform(key, labels.shape[-1:]))(flat)
        order = order.reshape(labels.shape)
    positive = _first(order, labels == 1, int(num * positive_fraction))
    negative = _first(order, labels == 0, num)
    index = jnp.concatenate([positive[0], negative[0]], axis=-1)
    drawn = jnp.concatenate([positive[1], negative[1]], axis=-1)
    # The drawn ones keep their order, so positive ones stay before negative ones.
    places = jnp.argsort(~drawn, axis=-1, stable=True)[..., :num]
    index, drawn = (jnp.take_along_axis(part, places, axis=-1) for part in (index, drawn))
    return index, drawn


def sample_hardest(
    labels: Int[Array, "*b n"], losses: Float[Array, "*b n"], num: int
) -> tuple[Int[Array, "*b s"], Bool[Array, "*b s"]]:
    """The candidates with the largest losses: online hard example mining (arXiv 1604.03540).

    As R-FCN (arXiv 1605.06409) does, positive and negative candidates compete with one another, and
    overlapping ones are not suppressed first.

    >>> losses = jnp.array([0.1, 3.0, 9.0, 0.2])
    >>> sample_hardest(jnp.array([0, 1, -1, 0]), losses, 2)[0].tolist()
    [1, 3]

    Args:
        labels: 1 for positive, 0 for negative, -1 for ignored candidates.
        losses: Loss of each candidate; no gradient flows to it.
        num: How many to choose of each image, s; it may be larger than n.

    Returns:
        Indices of the candidates, largest loss first; and True where one was chosen, False for the
        filling at the end if there are too few, whose indices are in range as well.
    """
    return _first(jax.lax.stop_gradient(losses), labels >= 0, num)


def _first(order: Float[Array, "*b n"], allowed: Bool[Array, "*b n"], num: int) -> _Chosen:
    """The `num` allowed candidates with the highest values, and False for filling."""
    n = order.shape[-1]
    ranked = jnp.where(allowed, order, -jnp.inf)
    _, index = jax.lax.top_k(ranked, min(num, n))
    chosen = jnp.take_along_axis(allowed, index, axis=-1)
    ends = [(0, 0)] * (order.ndim - 1) + [(0, num - index.shape[-1])]
    return jnp.pad(index, ends), jnp.pad(chosen, ends)


def hardest_negatives(
    positive: Bool[Array, "*b n"], losses: Float[Array, "*b n"], ratio: float
) -> Bool[Array, "*b n"]:
    """True for the negative candidates with the largest losses (SSD, arXiv 1512.02325).

    >>> positive = jnp.array([True, False, False, False])
    >>> hardest_negatives(positive, jnp.array([0.1, 3.0, 9.0, 0.2]), 2.0).tolist()
    [False, True, True, False]

    Args:
        positive: True for positive candidates; all others are negative.
        losses: Loss of each candidate; no gradient flows to it.
        ratio: How many negative candidates of an image are chosen for each positive one; none are
            in an image without positive ones.
    """
    ranked = jnp.where(positive, -jnp.inf, jax.lax.stop_gradient(losses))
    order = jnp.argsort(-ranked, axis=-1, stable=True)
    places = jnp.argsort(order, axis=-1)
    return ~positive & (places < ratio * positive.sum(axis=-1, keepdims=True))
