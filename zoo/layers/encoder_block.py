"""The encoder block of Transformers: self-attention, then an MLP, each with a residual.

Post-norm as in "Attention is all you need" (arXiv 1706.03762, figure 1 left), or pre-norm as in
Vision Transformers (arXiv 2010.11929, figure 1 right).
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.attention import MultiHeadAttention
from zoo.layers.drop_path import DropPath
from zoo.layers.mlp import Mlp


class EncoderBlock(nn.Module):
    """Attention and MLP, each with a residual and a norm.

    Attributes:
        num_heads: Heads of attention.
        mlp_dim: Hidden features of the MLP.
        dropout: Rate of dropout after the MLP's activation and after each branch.
        attention_dropout: Rate of dropout on the attention maps.
        drop_path: Rate of drop path of each branch.
        activation: Activation of the MLP.
        pre_norm: Whether the norms are before the branches; otherwise they are after the sums.
        norm_epsilon: Added to the variance in the norms.
        dtype: Dtype of the computation; parameters are float32.
    """

    num_heads: int
    mlp_dim: int
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: float = 0.0
    activation: Callable[[Array], Array] = Mlp.activation
    pre_norm: bool = True
    norm_epsilon: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        rate: Float[Array, ""] | None = None,
        *,
        mask: Bool[Array, "#b #heads #n #n"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b n d"]:
        """The tokens after the block; dropout and drop path need the ``dropout`` stream.

        Args:
            x: Tokens.
            rate: Replaces the field `drop_path` in scanned layers.
            mask: True where the token of the row may attend to the token of the column.
            train: Whether dropout and drop path are on.
        """
        norm = partial(nn.LayerNorm, epsilon=self.norm_epsilon, dtype=self.dtype)
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        drop_path = partial(DropPath(self.drop_path), rate=rate, train=train)
        attention = MultiHeadAttention(
            self.num_heads, self.attention_dropout, dtype=self.dtype, name="attn"
        )
        mlp = Mlp(self.mlp_dim, self.dropout, self.activation, dtype=self.dtype, name="mlp")
        norm1, norm2 = norm(name="norm1"), norm(name="norm2")

        y = attention(norm1(x) if self.pre_norm else x, mask=mask, train=train)
        x = x + drop_path(dropout(y))
        x = x if self.pre_norm else norm1(x)

        y = mlp(norm2(x) if self.pre_norm else x, train=train)
        x = x + drop_path(dropout(y))
        return x if self.pre_norm else norm2(x)
