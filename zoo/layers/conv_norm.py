"""A convolution, its norm and a ReLU: what most layers of convolutional networks are."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers.conv import conv_layer
from zoo.layers.norm import Norm, norm_layer


class ConvNorm(nn.Module):
    """A convolution without bias, a norm and a ReLU; submodules are ``conv`` and ``norm``.

    Attributes:
        dim: Features of the output.
        size: Height and width of the kernel, odd.
        stride: Pixels of the input from one pixel of the output to the next.
        norm: Kind of norm; see `zoo.layers.norm.norm_layer`.
        norm_epsilon: Added to the variance.
        norm_momentum: Share of the old statistics that a step of training keeps.
        negative_slope: Factor of negative values, 0.1 in Darknet; None: there is no ReLU.
        dtype: Dtype of the computation; parameters are float32.
    """

    dim: int
    size: int = 3
    stride: int = 1
    norm: Norm = "batch"
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.9
    negative_slope: float | None = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b rows columns d"]:
        """The next map; in training batch norm updates its statistics."""
        x = conv_layer(self.dim, self.size, self.stride, dtype=self.dtype, name="conv")(x)
        epsilon, momentum = self.norm_epsilon, self.norm_momentum
        norm = norm_layer(self.norm, self.dtype, train=train, epsilon=epsilon, momentum=momentum)
        x = norm(name="norm")(x)
        if self.negative_slope is None:
            return x
        return nn.leaky_relu(x, self.negative_slope) if self.negative_slope else nn.relu(x)
