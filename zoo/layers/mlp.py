"""The two-layer perceptron of transformers and mixers."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class Mlp(nn.Module):
    """A dense layer, an activation, and a dense layer back to the number of input features.

    Attributes:
        mlp_dim: Number of hidden features.
        dropout: Rate of dropout after the activation.
        activation: Between the layers; the exact GELU (arXiv 1606.08415) by default.
        dtype: Dtype of the computation; parameters are float32.
    """

    mlp_dim: int
    dropout: float = 0.0
    activation: Callable[[Array], Array] = partial(nn.gelu, approximate=False)
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "... d"], *, train: bool = False) -> Float[Array, "... d"]:
        """Applies it to the last axis; training with dropout needs the ``dropout`` stream."""
        dense = partial(
            nn.Dense,
            dtype=self.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            bias_init=nn.initializers.normal(1e-6),
        )
        features = x.shape[-1]
        x = self.activation(dense(self.mlp_dim, name="fc1")(x))
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        return dense(features, name="fc2")(x)
