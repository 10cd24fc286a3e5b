"""Pooling."""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Float


def max_pool(
    x: Float[Array, "b h w c"], size: int, stride: int, padding: int = 0
) -> Float[Array, "b rows columns c"]:
    """The largest value of each window, the same as `flax.linen.max_pool` and torch.

    Computed from shifted slices: on a CPU the gradient of XLA's windowed maximum takes thirty times
    as long. Equal largest values in a window share the gradient; in XLA's, one of them gets it.

    Args:
        x: Feature maps.
        size: Height and width of a window.
        stride: Pixels from one window to the next.
        padding: Pixels added on every side, which are never the largest.
    """
    if padding:
        around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        x = jnp.pad(x, around, constant_values=-jnp.inf)
    for axis in (1, 2):
        count = (x.shape[axis] - size) // stride + 1
        index: list[slice] = [slice(None)] * 4
        shifted = []
        for start in range(size):
            index[axis] = slice(start, start + (count - 1) * stride + 1, stride)
            shifted.append(x[tuple(index)])
        x = functools.reduce(jnp.maximum, shifted)
    return x
