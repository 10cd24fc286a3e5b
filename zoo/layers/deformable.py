"""A deformable convolution that predicts its own offsets."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers.conv import conv_layer
from zoo.ops.deformable import deformable_conv

_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_ZEROS = nn.initializers.zeros


class DeformableConv(nn.Module):
    """A modulated deformable convolution with stride 1 (arXiv 1811.11168, section 3.2).

    The submodule ``offsets`` is a convolution with three numbers for each weight of the kernel:
    first the distances in rows and columns of all weights, then the logits of all factors. It
    starts at zero: no distances, and factors of 1/2. References: the authors' ``DCN``, and mmcv's
    ``ModulatedDeformConv2dPack``.

    Attributes:
        dim: Features of the output.
        size: Height and width of the kernel, odd.
        bias: Whether there is one.
        dtype: Dtype of the computation; parameters, offsets and factors are float32.
    """

    dim: int
    size: int = 3
    bias: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w dim"]:
        """The next map."""
        count = self.size**2
        options = {"bias": True, "kernel_init": _ZEROS, "dtype": jnp.float32, "name": "offsets"}
        found = conv_layer(3 * count, self.size, **options)(x.astype(jnp.float32))
        offsets, logits = jnp.split(found, [2 * count], axis=-1)
        kernel = self.param("kernel", _INIT, (self.size, self.size, x.shape[-1], self.dim))
        x = deformable_conv(
            x.astype(self.dtype),
            offsets.reshape(*offsets.shape[:3], count, 2),
            jax.nn.sigmoid(logits),
            kernel,
        )
        if not self.bias:
            return x
        return x + self.param("bias", _ZEROS, (self.dim,)).astype(self.dtype)
