"""The encoder block of Vision Transformers (arXiv 2010.11929, figure 1 right)."""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers.attention import MultiHeadAttention
from zoo.layers.drop_path import DropPath
from zoo.layers.mlp import Mlp


class EncoderBlock(nn.Module):
    """Pre-norm attention and MLP, each with a residual.

    Attributes:
        num_heads: Heads of attention.
        mlp_dim: Hidden features of the MLP.
        dropout: Rate after the MLP's activation and each branch.
        drop_path: Rate of drop path of each branch.
        norm_epsilon: What is added to the norms' variance.
        dtype: Of the computation; parameters are float32.
    """

    num_heads: int
    mlp_dim: int
    dropout: float = 0.0
    drop_path: float = 0.0
    norm_epsilon: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        rate: Float[Array, ""] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b n d"]:
        """The next tokens; training with any dropping needs the ``dropout`` stream.

        `rate`, if there is one, stands for `drop_path`.
        """
        norm = partial(nn.LayerNorm, epsilon=self.norm_epsilon, dtype=self.dtype)
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        drop_path = partial(DropPath(self.drop_path), rate=rate, train=train)

        y = norm(name="norm1")(x)
        y = MultiHeadAttention(self.num_heads, dtype=self.dtype, name="attn")(y, train=train)
        x = x + drop_path(dropout(y))

        y = norm(name="norm2")(x)
        y = Mlp(self.mlp_dim, self.dropout, dtype=self.dtype, name="mlp")(y, train=train)
        return x + drop_path(dropout(y))
