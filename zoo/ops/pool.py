"""Pooling."""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Float


def max_pool(
    x: Float[Array, "b h w c"], size: int, stride: int, padding: int = 0, *, ceil: bool = False
) -> Float[Array, "b rows columns c"]:
    """The largest value of each window, the same as `flax.linen.max_pool` and torch.

    Computed from shifted slices: on a CPU the gradient of XLA's windowed maximum takes thirty times
    as long. Equal largest values in a window share the gradient; in XLA's, one of them gets it.

    Args:
        x: Feature maps.
        size: Height and width of a window.
        stride: Pixels from one window to the next.
        padding: Pixels added on every side, which are never the largest.
        ceil: Whether a last window may extend beyond the map, as with torch's ``ceil_mode``; needs
            ``stride <= size``. Else the pixels after the last whole window do not count.
    """
    if padding or ceil:
        sides = (x.shape[1], x.shape[2])
        more = [-(side + 2 * padding - size) % stride if ceil else 0 for side in sides]
        after = ((padding, padding + extra) for extra in more)
        around = ((0, 0), *after, (0, 0))
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


def max_pool_same(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b h w c"]:
    """The largest value of the window around each pixel; beyond the map there are no values.

    As darknet's pooling with stride 1: of an even `size`, the window reaches one pixel further
    below and to the right than above and to the left.

    Args:
        x: Feature maps.
        size: Height and width of a window.
    """
    before, after = (size - 1) // 2, size // 2
    around = ((0, 0), (before, after), (before, after), (0, 0))
    return max_pool(jnp.pad(x, around, constant_values=-jnp.inf), size, 1)
