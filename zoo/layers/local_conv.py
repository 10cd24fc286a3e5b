"""A convolution whose kernel differs from place to place: darknet's locally connected layer."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

_INIT = nn.initializers.variance_scaling(2.0, "fan_in", "normal", in_axis=(2, 3), batch_axis=(0, 1))


class LocalConv(nn.Module):
    """A convolution of stride 1 with a kernel and a bias of its own for every place of the map.

    Attributes:
        dim: Features of the output.
        size: Height and width of the kernels, odd; beyond the map there are zeros.
        dtype: Dtype of the computation; parameters are float32.
    """

    dim: int
    size: int = 3
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """The next map; the parameters fix the height and width of the map."""
        _, h, w, c = x.shape
        taps = self.size**2
        kernel = self.param("kernel", _INIT, (h, w, taps, c, self.dim))
        bias = self.param("bias", nn.initializers.zeros, (h, w, self.dim))
        around = [(0, 0), *((self.size // 2,) * 2,) * 2, (0, 0)]
        x = jnp.pad(x.astype(self.dtype), around)
        places = [(i, j) for i in range(self.size) for j in range(self.size)]
        shifted = jnp.stack([x[:, i : i + h, j : j + w] for i, j in places], axis=3)
        found = jnp.einsum("bhwtc,hwtcd->bhwd", shifted, kernel.astype(self.dtype))
        return found + bias.astype(self.dtype)
