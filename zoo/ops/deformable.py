"""Modulated deformable convolution (Deformable ConvNets v2, arXiv 1811.11168, equation 1)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def deformable_conv(
    x: Float[Array, "b h w c"],
    offsets: Float[Array, "b h w t 2"],
    masks: Float[Array, "b h w t"],
    kernel: Float[Array, "size size c d"],
) -> Float[Array, "b h w d"]:
    """A convolution with stride 1 each of whose weights looks at a place of its own.

    Weight t of the kernel sees the value at its usual place plus an offset, which is interpolated
    from the four pixels around it, times a factor. The map is padded with zeros by half the kernel.
    The weights are taken one after the other, and computed again for the gradient, so memory holds
    the values that one weight sees. Sums are in float32.

    Args:
        x: A map.
        offsets: Distances in rows and in columns, in pixels, for each pixel and each of the
            ``t = size * size`` weights, which are numbered row by row.
        masks: Factors, usually in 0..1.
        kernel: `size` is odd.

    Raises:
        ValueError: If the number of offsets is not that of the kernel's weights.
    """
    size, _, c, d = kernel.shape
    b, h, w, count = masks.shape
    if count != size * size:
        raise ValueError(f"{count} offsets for a kernel of {size} x {size} weights")
    flat = x.reshape(b, h * w, c)
    places = np.stack(np.meshgrid(*[np.arange(size) - size // 2] * 2, indexing="ij"), axis=-1)
    rows, columns = jnp.arange(h)[:, None], jnp.arange(w)

    @jax.checkpoint
    def add(total: Float[Array, "b h w d"], weight: tuple) -> tuple[Float[Array, "b h w d"], None]:
        place, offset, mask, matrix = weight
        y, z = place[:, None, None, None] + offset.astype(jnp.float32)
        seen = _sample(flat, rows + y, columns + z, mask, (h, w))
        return total + jnp.einsum(
            "bnc,cd->bnd", seen, matrix, preferred_element_type=jnp.float32
        ).reshape(total.shape), None

    by_weight = (
        jnp.asarray(places.reshape(count, 2), jnp.float32),
        offsets.transpose(3, 4, 0, 1, 2),
        masks.transpose(3, 0, 1, 2),
        kernel.reshape(count, c, d).astype(x.dtype),
    )
    total, _ = jax.lax.scan(add, jnp.zeros((b, h, w, d), jnp.float32), by_weight)
    return total.astype(x.dtype)


def _sample(
    flat: Float[Array, "b n c"],
    y: Float[Array, "b h w"],
    z: Float[Array, "b h w"],
    mask: Float[Array, "b h w"],
    shape: tuple[int, int],
) -> Float[Array, "b n c"]:
    """The values at rows `y` and columns `z`, interpolated, times `mask`; zero outside."""
    low_y, low_z = jnp.floor(y), jnp.floor(z)
    total = jnp.zeros((), flat.dtype)
    for row, near_y in ((low_y, 1 - (y - low_y)), (low_y + 1, y - low_y)):
        for column, near_z in ((low_z, 1 - (z - low_z)), (low_z + 1, z - low_z)):
            inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
            index = jnp.where(inside, row * shape[1] + column, 0).astype(jnp.int32)
            share = jnp.where(inside, near_y * near_z, 0) * mask.astype(jnp.float32)
            values = jax.vmap(lambda x, i: x[i])(flat, index.reshape(len(flat), -1))
            total += values * share.reshape(len(flat), -1, 1).astype(flat.dtype)
    return total
