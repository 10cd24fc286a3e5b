"""DETR's heads for masks (arXiv 2005.12872, figure 8)."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.initializers import TORCH_LINEAR_INIT
from zoo.ops.resample import resize_nearest


class MaskAttention(nn.Module):
    """Attention maps of each query, with one softmax over all cells and heads together."""

    num_heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        queries: Float[Array, "b q d"],
        memory: Float[Array, "b n d"],
        valid: Bool[Array, "b 1 1 n"],
    ) -> Float[Array, "b q n heads"]:
        """Maps that sum to 1 over cells and heads."""
        features = queries.shape[-1]
        dense = partial(nn.Dense, features, dtype=self.dtype)
        init = nn.initializers.xavier_uniform()
        q = dense(kernel_init=init, name="query")(queries) * (features // self.num_heads) ** -0.5
        k = dense(kernel_init=init, name="key")(memory)
        q = q.reshape(*q.shape[:2], self.num_heads, -1)
        k = k.reshape(*k.shape[:2], self.num_heads, -1)
        logits = jnp.einsum("bqhd,bnhd->bqnh", q, k, preferred_element_type=jnp.float32)
        mask = valid[:, 0, :, :, None]  # b 1 n 1
        logits = jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
        return jax.nn.softmax(logits, axis=(2, 3)).astype(self.dtype)


class MaskHead(nn.Module):
    """Convolutions that refine every query's attention maps with the backbone's finer maps."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w d"],
        attention: Float[Array, "b q h w heads"],
        finer: tuple[Float[Array, "b _ _ _"], ...],
    ) -> Float[Array, "b q rows columns"]:
        """Logits of masks, at the size of the last of the `finer` maps (coarsest first)."""
        b, q, *_, heads = attention.shape
        d = x.shape[-1]
        conv = partial(
            nn.Conv,
            dtype=self.dtype,
            kernel_init=nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
        )
        norm = partial(nn.GroupNorm, epsilon=1e-5, dtype=self.dtype, use_fast_variance=False)
        x = jnp.broadcast_to(x[:, None], (b, q, *x.shape[1:]))
        x = jnp.concatenate([x, attention], axis=-1)
        x = x.reshape(b * q, *x.shape[2:])
        for i, dim in enumerate((d + heads, d // 2, d // 4, d // 8, d // 16)):
            if i >= 2:
                detail = conv(x.shape[-1], (1, 1), name=f"adapter{i - 1}")(finer[i - 2])
                x = resize_nearest(x, (detail.shape[1], detail.shape[2]))
                x = x.reshape(b, q, *x.shape[1:]) + detail[:, None]
                x = x.reshape(b * q, *x.shape[2:])
            x = conv(dim, (3, 3), padding=1, name=f"conv{i + 1}")(x)
            x = nn.relu(norm(min(8, dim), name=f"norm{i + 1}")(x))
        x = nn.Conv(1, (3, 3), padding=1, kernel_init=TORCH_LINEAR_INIT, name="out")(x)
        return x.reshape(b, q, *x.shape[1:3])
