"""The block of MobileNetV3 and EfficientNet: an inverted residual with squeeze-and-excitation.

Papers: "MobileNetV2", arXiv 1801.04381, section 3; with squeeze-and-excitation: "Searching for
MobileNetV3", arXiv 1905.02244, figure 4. References: timm's and torchvision's, with which outputs
agree. Without its first convolution it is a depthwise separable block.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers.conv import Padding, conv_layer
from zoo.layers.drop_path import DropPath
from zoo.layers.norm import Norm, norm_layer

Activation = Literal["relu", "relu6", "hard_swish", "silu"]
Gate = Literal["hard_sigmoid", "sigmoid"]
ACTIVATIONS = {"relu": nn.relu, "relu6": nn.relu6, "hard_swish": nn.hard_swish, "silu": nn.silu}
_GATES = {"hard_sigmoid": nn.hard_sigmoid, "sigmoid": nn.sigmoid}


class SqueezeExcite(nn.Module):
    """Scales each feature by a number in 0..1 that is computed from the means of all.

    "Squeeze-and-Excitation Networks", arXiv 1709.01507.

    Attributes:
        dim: Hidden features.
        activation: Of the hidden features.
        gate: Function that gives the numbers.
        dtype: Dtype of the computation; parameters are float32.
    """

    dim: int
    activation: Activation = "relu"
    gate: Gate = "hard_sigmoid"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The scaled map."""
        y = x.mean(axis=(1, 2), keepdims=True)
        y = ACTIVATIONS[self.activation](nn.Dense(self.dim, dtype=self.dtype, name="reduce")(y))
        return x * _GATES[self.gate](nn.Dense(x.shape[-1], dtype=self.dtype, name="expand")(y))


class BlockMaps(NamedTuple):
    """The map of a block after its first convolution, and that of its output."""

    expanded: Float[Array, "b h w c"]
    output: Float[Array, "b h2 w2 d"]


class InvertedResidual(nn.Module):
    """A 1 x 1 convolution to more features, a depthwise one, a 1 x 1 one to few.

    The input is added if it has the shape of the output.

    Attributes:
        expanded_dim: Features of the middle; no first convolution if the input has as many.
        dim: Features of the output.
        kernel_size: Of the middle convolution, odd.
        stride: Of the middle convolution.
        squeeze_dim: Hidden features of the squeeze-and-excitation after the middle convolution; 0
            for none.
        activation: After the first two convolutions, and in the squeeze-and-excitation unless
            `squeeze_activation` is given.
        squeeze_activation: In the squeeze-and-excitation; None for `activation`.
        gate: Of the squeeze-and-excitation.
        padding: Of the middle convolution: see `zoo.layers.conv_layer`.
        norm: Kind of norm after each convolution.
        norm_epsilon: Added to the variance in norms.
        drop_path: Rate of dropping the branch for an example.
        dtype: Dtype of the computation; parameters are float32.
    """

    expanded_dim: int
    dim: int
    kernel_size: int
    stride: int
    squeeze_dim: int = 0
    activation: Activation = "relu"
    squeeze_activation: Activation | None = None
    gate: Gate = "sigmoid"
    padding: Padding = "symmetric"
    norm: Norm = "batch"
    norm_epsilon: float = 1e-5
    drop_path: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> BlockMaps:
        """The maps of the block; training with drop path needs the ``dropout`` stream."""
        conv = partial(conv_layer, dtype=self.dtype)
        norm = block_norm(self, train=train)
        activation = ACTIVATIONS[self.activation]

        y = x
        if self.expanded_dim != x.shape[-1]:
            y = conv(self.expanded_dim, 1, name="expand_conv")(y)
            y = activation(norm(name="expand_norm")(y))
        expanded = y
        y = conv(
            self.expanded_dim,
            self.kernel_size,
            self.stride,
            groups=self.expanded_dim,
            padding=self.padding,
            # The default counts the outputs of all groups; an output depends on one input feature.
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
            name="depthwise_conv",
        )(y)
        y = activation(norm(name="depthwise_norm")(y))
        if self.squeeze_dim:
            inside = self.squeeze_activation or self.activation
            y = SqueezeExcite(self.squeeze_dim, inside, self.gate, self.dtype, name="squeeze")(y)
        y = norm(name="project_norm")(conv(self.dim, 1, name="project_conv")(y))
        y = x + DropPath(self.drop_path)(y, train=train) if x.shape == y.shape else y
        return BlockMaps(expanded, y)


def block_norm(module: Any, *, train: bool) -> partial:
    """Makes the norms of a module with `norm`, `norm_epsilon` and `dtype`.

    All numbers of features are multiples of the 8 groups of ``group``.
    """
    options = {"train": train, "epsilon": module.norm_epsilon, "num_groups": 8}
    return norm_layer(module.norm, module.dtype, **options)


def round_dim(dim: int | float) -> int:
    """A number of features as a multiple of 8, the nearest one that is at least 9/10 of it.

    >>> [round_dim(dim) for dim in (3, 18, 35.2, 44.8)]
    [8, 24, 32, 48]
    """
    rounded = max(8, int(dim + 4) // 8 * 8)
    return rounded if 10 * rounded >= 9 * dim else rounded + 8
