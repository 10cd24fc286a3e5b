"""Losses of heat maps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def gaussian_focal(
    logits: Float[Array, "*n"],
    wanted: Float[Array, "*n"],
    *,
    alpha: float = 2.0,
    beta: float = 4.0,
    least: float = 1e-4,
) -> Float[Array, "*n"]:
    """The focal loss of maps of Gaussians (CornerNet, arXiv 1808.01244, equation 1).

    ``-(1 - p)^alpha log(p)`` where `wanted` is exactly 1, else
    ``-(1 - wanted)^beta p^alpha log(1 - p)``. The papers divide the sum by the number of cells
    where `wanted` is 1, or by 1 if there are none.

    >>> [round(x, 4) for x in gaussian_focal(jnp.zeros(3), jnp.array([1.0, 0.5, 0.0])).tolist()]
    [0.1733, 0.0108, 0.1733]

    Args:
        logits: Any float dtype; the loss is computed in float32.
        wanted: 0..1.
        alpha: Exponent of the error of the prediction.
        beta: Exponent of the distance from an object.
        least: Probabilities are limited to ``least..1 - least``, beyond which there is no gradient:
            the number of the authors' code of CornerNet and CenterNet. 0 as in mmdet.
    """
    logits = logits.astype(jnp.float32)
    yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    if least:
        low, high = jnp.log(least), jnp.log1p(-least)
        yes, no = jnp.clip(yes, low, high), jnp.clip(no, low, high)
    positive = -jnp.exp(alpha * no) * yes
    negative = -((1 - wanted) ** beta) * jnp.exp(alpha * yes) * no
    return jnp.where(wanted == 1, positive, negative)
