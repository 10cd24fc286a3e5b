"""Losses of box coordinates."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def smooth_l1(errors: Float[Array, "*n"], beta: float = 1.0) -> Float[Array, "*n"]:
    """Quadratic for errors below `beta`, linear above (Fast R-CNN, arXiv 1504.08083, section 2.3).

    ``0.5 * error^2 / beta`` where ``|error| < beta``, else ``|error| - 0.5 * beta``.

    >>> smooth_l1(jnp.array([0.5, -2.0])).tolist()
    [0.125, 1.5]

    Args:
        errors: Predicted minus wanted values.
        beta: 0 gives the absolute errors, as in detectron2; torchvision's R-CNNs have 1 / 9.
    """
    size = jnp.abs(errors)
    if beta == 0:
        return size
    return jnp.where(size < beta, 0.5 * size**2 / beta, size - 0.5 * beta)
