"""Heads for heat maps of the points that mark objects, and for what is known at these points.

CornerNet, arXiv 1808.01244, section 3; CenterNet, arXiv 1904.07850, section 5. References: the
authors' code. The axis s is for the hourglasses, whose maps are all trained, and of which the last
one's are decoded.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers.conv import conv_layer
from zoo.layers.initializers import TORCH_LINEAR_INIT

HEAT_BIAS = -2.19
"""The first logit of heat maps, whose probability is 0.1."""

Scale = tuple[float, float]
"""Cells for a pixel of the padded image, across and down: ``128 / 511`` where it has 511 pixels."""


class MapHead(nn.Module):
    """A 3 x 3 convolution with a ReLU, and a 1 x 1 convolution in float32.

    Attributes:
        dim: Features of the output.
        hidden_dim: Features of the first convolution.
        bias: With which the output starts.
        out_init: Draws the kernel of the 1 x 1 convolution.
        dtype: Dtype of the first convolution; parameters are float32.
    """

    dim: int
    hidden_dim: int = 256
    bias: float = 0.0
    out_init: nn.initializers.Initializer = TORCH_LINEAR_INIT
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """The map."""
        hidden = {"kernel_init": TORCH_LINEAR_INIT, "dtype": self.dtype, "name": "hidden"}
        x = nn.relu(conv_layer(self.hidden_dim, 3, bias=True, **hidden)(x))
        out = {"kernel_init": self.out_init, "dtype": jnp.float32, "name": "out"}
        out["bias_init"] = nn.initializers.constant(self.bias)
        conv = conv_layer(self.dim, 1, bias=True, **out)
        return conv(x.astype(jnp.float32))


def stack_maps(maps: Sequence[Sequence[Float[Array, "b h w d"]]]) -> Float[Array, "b s p h w d"]:
    """One array of the maps of each hourglass and each kind of point, p."""
    return jnp.stack([jnp.stack(points, axis=1) for points in maps], axis=1)
