"""The convolutions of the heads that predict a map for each region."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.conv import conv_layer
from zoo.layers.norm import Norm, norm_layer


class RegionConvs(nn.Module):
    """3 x 3 convolutions, each with a ReLU.

    Attributes:
        dims: Features of the convolutions.
        norm: Norm after each convolution, which then has no bias; None for none.
        dtype: Dtype of the computation; parameters are float32.
    """

    dims: tuple[int, ...]
    norm: Norm | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "n p p c"], valid: Bool[Array, " n"], *, train: bool = False
    ) -> Float[Array, "n p p d"]:
        """The features of each region.

        Args:
            x: Pooled features.
            valid: False for filling, which the statistics of batch norm do not count.
            train: Whether batch norm is in training.
        """
        counted = valid | ~valid.any()  # the mean of no regions is not a number
        masked = {"mask": counted[:, None, None, None]} if self.norm == "batch" else {}
        x = x.astype(self.dtype)
        for i, dim in enumerate(self.dims):
            x = conv_layer(dim, 3, bias=not self.norm, dtype=self.dtype, name=f"conv_{i}")(x)
            if self.norm:
                norm = norm_layer(self.norm, self.dtype, train=train)(name=f"norm_{i}")
                x = norm(x, **masked)
            x = nn.relu(x)
        return x
