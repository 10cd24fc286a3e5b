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
        bias: Whether there is one.
        dtype: Dtype of the computation; parameters are float32.
    """

    dim: int
    size: int = 2
    stride: int = 2
    kernel_init: nn.initializers.Initializer = _INIT
    bias: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows columns dim"]:
        """The enlarged maps; raises ValueError if `size` does not fit `stride`."""
        b, h, w, c = x.shape
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, c, self.dim))
        places, before, after = _places(self.size, self.stride)
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
        if not self.bias:
            return x
        return x + self.param("bias", nn.initializers.zeros, (self.dim,)).astype(self.dtype)


def bilinear(
    key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> Float[Array, "size size 1 c"]:
    """Weights of an `Upsample` that interpolates linearly; `key` is not used."""
    half = -(-shape[0] // 2)
    centre = (2 * half - 1 - half % 2) / (2 * half)
    line = 1 - np.abs(np.arange(shape[0]) / half - centre)
    return jnp.broadcast_to(jnp.asarray(line[:, None] * line, dtype)[..., None, None], shape)


class Upsample(nn.Module):
    """A learned enlargement of each feature by itself.

    It is torch's ``ConvTranspose2d(c, c, 2 * stride, stride, stride // 2, groups=c, bias=False)``,
    computed as a sum of shifted maps.

    Attributes:
        stride: Pixels of the output for a pixel of the input, even.
        dtype: Dtype of the computation; parameters are float32.
    """

    stride: int = 2
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows columns c"]:
        """The enlarged maps."""
        (b, h, w, c), size = x.shape, 2 * self.stride
        kernel = self.param("kernel", bilinear, (size, size, 1, c))
        places, before, after = _places(size, self.stride)
        kernel = jnp.pad(kernel[:, :, 0], ((0, 1), (0, 1), (0, 0)))  # zeros for absent weights
        kernel = kernel[places[:, None, :, None], places[None, :, None, :]]  # t t s s c
        around = ((0, 0), (before, after), (before, after), (0, 0))
        x = jnp.pad(x, around).astype(self.dtype)
        total = jnp.zeros((), self.dtype)
        for i, j in np.ndindex(len(places), len(places)):
            shifted = x[:, i : i + h, None, j : j + w, None]  # b h 1 w 1 c
            total += shifted * kernel[i, j].astype(self.dtype)[:, None]
        return total.reshape(b, h * self.stride, w * self.stride, c)


def _places(size: int, stride: int) -> tuple[np.ndarray, int, int]:
    """Which weight a neighbour of the input has for each pixel of the output's cell.

    Returns:
        ``[neighbours stride]``, with `size` where there is no weight; and the numbers of neighbours
        before and after the pixel itself.

    Raises:
        ValueError: If the input cannot be padded equally on both sides.
    """
    if size < stride or (size - stride) % 2:
        raise ValueError(f"size {size} must be {stride}, or more by an even number")
    padding = (size - stride) // 2
    before = (size - 1 - padding) // stride
    after = (stride - 1 + padding) // stride
    neighbours = np.arange(-before, after + 1)[:, None]
    places = np.arange(stride) + padding - stride * neighbours
    return np.where((places >= 0) & (places < size), places, size), before, after
