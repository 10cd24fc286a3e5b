"""Convolutions as torch's networks have them."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Padding = Literal["symmetric", "same"]
_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_DEPTHWISE_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
_POINTWISE_INIT = nn.initializers.xavier_uniform()


def conv_layer(
    dim: int,
    size: int,
    stride: int = 1,
    *,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    bias: bool = False,
    padding: Padding = "symmetric",
    kernel_init: nn.initializers.Initializer = _INIT,
    bias_init: nn.initializers.Initializer = nn.initializers.zeros,
    dtype: DTypeLike,
    name: str,
) -> nn.Conv:
    """A convolution that is padded by half its extent on both sides, as in torch.

    With ``padding="same"`` it is padded as in TensorFlow.

    A 1 x 1 convolution is computed as a matrix product. On CPUs, a depthwise convolution, one with
    as many groups as features, is computed as a sum of shifted maps: with XLA's depthwise
    convolution, a training step of MobileNetV3 takes 4.6 times as long there.

    Args:
        dim: Features of the output.
        size: Height and width of the kernel, odd.
        stride: Pixels of the input from one pixel of the output to the next.
        dilation: Pixels of the input from one weight of the kernel to the next. Several numbers are
            those of branches, which share the kernel (TridentNet, arXiv 1901.01892): of n branches,
            example i of the batch belongs to branch i modulo n.
        groups: Groups of features that are convolved by themselves; if there are `dim` of them, the
            input has `dim` features, too.
        bias: Whether there is one.
        padding: ``symmetric``: half the extent of the kernel on both sides. ``same``: as much as is
            needed for a map of size / stride, rounded up; an odd number has one more after the map
            than before it. The two differ with a stride of 2 and an even size. Not for branches.
        kernel_init: By default Kaiming's, for the features of the output, as in torch's networks.
        bias_init: By default the bias starts at zero.
        dtype: Dtype of the computation; parameters are float32.
        name: Of the submodule.
    """
    compute, spread = None, dilation if isinstance(dilation, int) else 1
    if not isinstance(dilation, int):
        compute = partial(_branches, dilations=dilation)
    elif size == groups == 1:
        compute = _pointwise
    elif groups == dim > 1 and dilation == 1 and jax.default_backend() == "cpu":
        compute = _depthwise
    return nn.Conv(
        dim,
        (size, size),
        stride,
        padding="SAME" if padding == "same" else spread * (size // 2),
        kernel_dilation=spread,
        feature_group_count=groups,
        use_bias=bias,
        kernel_init=kernel_init,
        bias_init=bias_init,
        dtype=dtype,
        conv_general_dilated=compute,
        name=name,
    )


class SeparableConv(nn.Module):
    """A depthwise convolution, and a 1 x 1 one, without anything in between.

    Attributes:
        dim: Features of the output.
        size: Height and width of the depthwise kernel, odd.
        bias: Whether the second one has a bias; the first one has none.
        depthwise_init: Initial values of the first kernel.
        pointwise_init: Of the second one.
        bias_init: Of the bias.
        dtype: Dtype of the computation; parameters are float32.
    """

    dim: int
    size: int = 3
    bias: bool = True
    depthwise_init: nn.initializers.Initializer = _DEPTHWISE_INIT
    pointwise_init: nn.initializers.Initializer = _POINTWISE_INIT
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """A map of the same size."""
        channels = x.shape[-1]
        x = conv_layer(
            channels,
            self.size,
            groups=channels,
            kernel_init=self.depthwise_init,
            dtype=self.dtype,
            name="depthwise",
        )(x)
        return conv_layer(
            self.dim,
            1,
            bias=self.bias,
            kernel_init=self.pointwise_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
            name="pointwise",
        )(x)


def _branches(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "size size _ d"],
    strides: Sequence[int],
    *_: object,
    dilations: tuple[int, ...],
    rhs_dilation: object,
    **options: Any,
) -> Float[Array, "b rows columns d"]:
    """One kernel with the dilation of each branch."""
    count, half = len(dilations), len(kernel) // 2
    images = x.reshape(-1, count, *x.shape[1:])
    found = [
        jax.lax.conv_general_dilated(
            images[:, i],
            kernel,
            strides,
            [(dilation * half, dilation * half)] * 2,
            rhs_dilation=(dilation, dilation),
            **options,
        )
        for i, dilation in enumerate(dilations)
    ]
    return jnp.stack(found, axis=1).reshape(-1, *found[0].shape[1:])


def _pointwise(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "1 1 c d"],
    strides: Sequence[int],
    *_: object,
    precision: jax.lax.PrecisionLike = None,
    **__: object,
) -> Float[Array, "b rows columns d"]:
    """A 1 x 1 convolution as a matrix product."""
    x = x[:, :: strides[0], :: strides[1]]
    return jnp.einsum("bhwc,cd->bhwd", x, kernel[0, 0], precision=precision)


def _depthwise(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "size size 1 c"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]] | str,
    **_: object,
) -> Float[Array, "b rows columns c"]:
    """A depthwise convolution as a sum over the kernel's weights."""
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0))).astype(jnp.float32)
    (row_step, column_step), size = strides, len(kernel)
    total = jnp.zeros((), jnp.float32)
    for i in range(size):
        rows = x[:, i : x.shape[1] - size + 1 + i : row_step]
        for j in range(size):
            shifted = rows[:, :, j : x.shape[2] - size + 1 + j : column_step]
            total += shifted * kernel[i, j, 0]
    return total.astype(kernel.dtype)
