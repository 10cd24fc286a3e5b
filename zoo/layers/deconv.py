"""Transposed convolution, as in torch, without a dilated input."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

# torch draws for the features of the output, but has the two axes of features exchanged.
_INIT = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class Deconv(nn.Module):
    """A transposed convolution that multiplies height and width by its stride.

    It is torch's ``ConvTranspose2d(c, dim, size, stride, (size - stride) // 2)``: a pixel i of the
    input adds ``kernel[k]`` times its features to the pixel ``stride * i + k - padding`` of the
    output. It is computed as a convolution at the resolution of the input, whose features are
    `stride` x `stride` pixels of the output: XLA's convolution of a dilated input is slow on CPUs.

    Attributes:
        dim: Features of the output.
        size: Height and width of the kernel: `stride`, or more by an even number.
        stride: Pixels of the output for a pixel of the input.
        kernel_init: By default Kaiming's, as in the reference's heads.
        dtype: Dtype of the computation; parameters are float32.
    """

    dim: int
    size: int = 2
    stride: int = 2
    kernel_init: nn.initializers.Initializer = _INIT
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows columns dim"]:
        """The enlarged maps; raises ValueError if `size` does not fit `stride`."""
        if self.size < self.stride or (self.size - self.stride) % 2:
            raise ValueError(f"size {self.size} must be {self.stride}, or more by an even number")
        b, h, w, c = x.shape
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, c, self.dim))
        bias = self.param("bias", nn.initializers.zeros, (self.dim,))
        places, before, after = self._places()
        kernel = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))  # zeros for absent weights
        kernel = kernel[places[:, None, :, None], places[None, :, None, :]]  # t t s s c d
        kernel = kernel.transpose(0, 1, 4, 2, 3, 5).reshape(*kernel.shape[:2], c, -1)
        x = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (1, 1),
            [(before, after)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = x.reshape(b, h, w, self.stride, self.stride, self.dim).swapaxes(2, 3)
        x = x.reshape(b, h * self.stride, w * self.stride, self.dim)
        return x + bias.astype(self.dtype)

    def _places(self) -> tuple[np.ndarray, int, int]:
        """Which weight a neighbour of the input has for each pixel of the output's cell.

        Returns:
            ``[neighbours stride]``, with `size` where there is no weight; and the numbers of
            neighbours before and after the pixel itself.
        """
        padding = (self.size - self.stride) // 2
        before = (self.size - 1 - padding) // self.stride
        after = (self.stride - 1 + padding) // self.stride
        neighbours = np.arange(-before, after + 1)[:, None]
        places = np.arange(self.stride) + padding - self.stride * neighbours
        return np.where((places >= 0) & (places < self.size), places, self.size), before, after
