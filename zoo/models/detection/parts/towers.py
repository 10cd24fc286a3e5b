"""The parts of the heads of dense detectors, which are the same for all levels of a pyramid."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers.conv import SeparableConv, conv_layer
from zoo.layers.norm import Norm, norm_layer

_INIT = nn.initializers.normal(0.01)
_SEPARABLE_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
_Maps = Sequence[Float[Array, "b _ _ c"]]


class Tower(nn.Module):
    """3 x 3 convolutions, each with a ReLU, with the same weights for all maps.

    RetinaNet, arXiv 1708.02002, section 4; with group norm: FCOS, arXiv 1904.01355.

    Attributes:
        num_convs: Number of convolutions; they keep the number of features.
        norm: Norm after each convolution; None for none. The statistics of batch norm are those of
            one map after the other.
        bias: Whether the convolutions have a bias.
        dtype: Dtype of the computation; parameters are float32.
    """

    num_convs: int = 4
    norm: Norm | None = None
    bias: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, maps: _Maps, *, train: bool = False) -> list[Float[Array, "b _ _ c"]]:
        """A map of features for each of the maps."""
        options = {"bias": self.bias, "kernel_init": _INIT, "dtype": self.dtype}
        layers = []
        for i in range(self.num_convs):
            layers.append(conv_layer(maps[0].shape[-1], 3, name=f"conv_{i}", **options))
            if self.norm:
                layers.append(norm_layer(self.norm, self.dtype, train=train)(name=f"norm_{i}"))
            layers.append(nn.relu)
        found = []
        for x in maps:
            for layer in layers:
                x = layer(x)
            found.append(x)
        return found


class SeparableTower(nn.Module):
    """3 x 3 separable convolutions with the same weights for all maps, and norms of each map.

    EfficientDet, arXiv 1911.09070, section 4.2: each convolution is followed by a norm, which every
    map has for itself, and by SiLU.

    Attributes:
        num_convs: Number of convolutions; they keep the number of features.
        norm: Norm after each convolution; ``group`` has 8 groups.
        norm_epsilon: Added to the variance in norms.
        bias: Whether the convolutions have a bias.
        dtype: Dtype of the computation; parameters are float32.
    """

    num_convs: int = 3
    norm: Norm = "batch"
    norm_epsilon: float = 1e-3
    bias: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, maps: _Maps, *, train: bool = False) -> list[Float[Array, "b _ _ c"]]:
        """A map of features for each of the maps."""
        options = {"train": train, "epsilon": self.norm_epsilon, "num_groups": 8}
        norm = norm_layer(self.norm, self.dtype, **options)
        convs = [
            SeparableConv(
                maps[0].shape[-1],
                bias=self.bias,
                depthwise_init=_SEPARABLE_INIT,
                pointwise_init=_SEPARABLE_INIT,
                dtype=self.dtype,
                name=f"conv_{i}",
            )
            for i in range(self.num_convs)
        ]
        found = []
        for level, x in enumerate(maps):
            for i, conv in enumerate(convs):
                x = nn.silu(norm(name=f"norm_{i}_{level}")(conv(x)))
            found.append(x)
        return found


def output_conv(dim: int, name: str, probability: float | None = None) -> nn.Conv:
    """A last 3 x 3 convolution of a head, in float32.

    Args:
        dim: Features of the output.
        name: Of the submodule.
        probability: For logits: their sigmoid before training, so that the many negative examples
            do not dominate the first steps (RetinaNet, section 3.3). None starts at 0.
    """
    bias_init = _bias_init(probability)
    options: dict[str, Any] = {"bias_init": bias_init, "dtype": jnp.float32, "name": name}
    return conv_layer(dim, 3, bias=True, kernel_init=_INIT, **options)


def separable_output(dim: int, name: str, probability: float | None = None) -> SeparableConv:
    """A last separable convolution of a head, in float32; see `output_conv`."""
    return SeparableConv(
        dim,
        depthwise_init=_SEPARABLE_INIT,
        pointwise_init=_SEPARABLE_INIT,
        bias_init=_bias_init(probability),
        name=name,
    )


def _bias_init(probability: float | None) -> nn.initializers.Initializer:
    """A bias whose sigmoid is the probability; zero without one."""
    start = 0.0 if probability is None else math.log(probability / (1 - probability))
    return nn.initializers.constant(start)


def per_anchor(conv: nn.Module, maps: _Maps, size: int) -> list[Float[Array, "b _ size"]]:
    """Outputs of each level, ordered by row, column, and anchor of the cell.

    Args:
        conv: A convolution with `size` features for each anchor of a cell.
        maps: Features of each level.
        size: Numbers for an anchor.
    """
    found = (conv(x.astype(jnp.float32)) for x in maps)
    return [x.reshape(x.shape[0], -1, size) for x in found]
