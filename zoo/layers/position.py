"""Position embeddings: sinusoids in one and two dimensions, and resized learned grids."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int


def _frequencies(count: int, temperature: float, endpoint: bool) -> Float[Array, " d"]:
    """1 / temperature ** x for `count` values of x from 0 to 1, without 1 unless `endpoint`."""
    return temperature ** -jnp.linspace(0.0, 1.0, count, endpoint=endpoint)


def sincos_1d(
    length: int,
    dim: int,
    *,
    start: int | Int[Array, ""] = 0,
    interleaved: bool = True,
    temperature: float = 10_000.0,
) -> Float[Array, "n d"]:
    """Sinusoids of "Attention is all you need" (arXiv 1706.03762, section 3.5).

    Args:
        length: Number of positions.
        dim: Features, even.
        start: The first position.
        interleaved: Whether the sine and the cosine of an angle are neighbours, the sine first;
            otherwise the first half of the features has all sines, as in tensor2tensor and Marian.
        temperature: Longest wavelength divided by 2 pi.
    """
    if dim % 2:
        raise ValueError(f"sinusoids in one dimension need an even number of features, not {dim}")
    frequencies = _frequencies(dim // 2, temperature, endpoint=False)
    angles = (start + jnp.arange(length))[:, None] * frequencies
    pairs = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1 if interleaved else -2)
    return pairs.reshape(length, dim)


def sincos_2d(
    rows: int, columns: int, dim: int, *, temperature: float = 10_000.0, endpoint: bool = False
) -> Float[Array, "rows columns d"]:
    """Sinusoids of MoCo v3 (arXiv 2104.02057): sin x, cos x, sin y, cos y, a quarter each.

    Args:
        rows: Rows of the grid.
        columns: Columns of the grid.
        dim: Features, a multiple of four.
        temperature: Longest wavelength divided by 2 pi.
        endpoint: Whether the lowest frequency is exactly 1 / temperature, as in big_vision; in MoCo
            v3 and MAE it is one step higher.
    """
    if dim % 4:
        raise ValueError(f"sinusoids in two dimensions need a multiple of 4 features, not {dim}")
    frequencies = _frequencies(dim // 4, temperature, endpoint)
    y = jnp.arange(rows)[:, None, None] * frequencies
    x = jnp.arange(columns)[None, :, None] * frequencies
    quarters = jnp.broadcast_arrays(jnp.sin(x), jnp.cos(x), jnp.sin(y), jnp.cos(y))
    return jnp.concatenate(quarters, axis=-1)


def sine_2d(
    valid: Bool[Array, "b rows columns"], dim: int, *, temperature: float = 10_000.0
) -> Float[Array, "b rows columns d"]:
    """Sinusoids of DETR (arXiv 2005.12872): the first half for the row, the second for the column.

    The position of a row is the number of valid rows up to it, itself included, divided by the
    number of all valid rows, times 2 pi; columns likewise. So the positions in an image do not
    depend on how it is padded.

    Args:
        valid: True for the cells of the image, False for padding.
        dim: Features, a multiple of four.
        temperature: Longest wavelength divided by 2 pi.
    """
    if dim % 4:
        raise ValueError(f"sinusoids in two dimensions need a multiple of 4 features, not {dim}")
    frequencies = _frequencies(dim // 4, temperature, endpoint=False)
    halves = []
    for axis in (1, 2):
        count = jnp.cumsum(valid, axis=axis, dtype=jnp.float32)
        total = jax.lax.index_in_dim(count, -1, axis)
        angles = (2 * jnp.pi * count / (total + 1e-6))[..., None] * frequencies
        pairs = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        halves.append(pairs.reshape(*valid.shape, dim // 2))
    return jnp.concatenate(halves, axis=-1)


def resize_positions(
    positions: Float[Array, "rows columns d"], grid: tuple[int, int]
) -> Float[Array, "new_rows new_columns d"]:
    """Resizes learned positions to another grid: antialiased and bicubic, as in timm."""
    if positions.shape[:2] == grid:
        return positions
    return jax.image.resize(positions, (*grid, positions.shape[-1]), "bicubic", antialias=True)


def fixed(
    module: nn.Module, name: str, make: Callable[[], Float[Array, "..."]]
) -> Float[Array, "..."]:
    """A table in the collection ``fixed``: saved in checkpoints like a parameter, but not trained.

    Args:
        module: The module that the table belongs to.
        name: Name of the table.
        make: Gives the first value; also used where the variables lack the collection.
    """
    if module.is_initializing() or module.has_variable("fixed", name):
        return module.variable("fixed", name, make).value
    return make()
