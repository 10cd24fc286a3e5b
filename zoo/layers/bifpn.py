"""BiFPN: a pyramid of feature maps that are summed from coarse to fine and back, several times.

Paper: "EfficientDet: Scalable and Efficient Object Detection", arXiv 1911.09070, section 3.
Reference: rwightman's effdet, with which outputs agree.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers.conv import Padding, SeparableConv, conv_layer
from zoo.layers.norm import Norm, norm_layer
from zoo.ops.pool import max_pool
from zoo.ops.resample import enlarge_nearest

_EPSILON = 1e-4  # added to the sum of the weights: section 3.3


class BiFPN(nn.Module):
    """Maps of a backbone to maps of the same sizes and coarser ones, all with `dim` features.

    Attributes:
        dim: Features of the outputs.
        num_cells: How often all maps are summed from coarse to fine and back.
        num_extra: Coarser levels than those of the backbone; each is the maximum over windows of
            the one before it, the first one of a 1 x 1 convolution of the backbone's coarsest map.
        weighted: Whether the maps of a sum have learned weights; not in D6 and D7.
        padding: Of the windows: see `zoo.layers.conv_layer`.
        norm: Norm after each convolution; ``group`` has 8 groups.
        norm_epsilon: Added to the variance in norms.
        bias: Whether convolutions with a norm after them have a bias, too.
        dtype: Dtype of the computation; parameters are float32.
    """

    dim: int = 64
    num_cells: int = 3
    num_extra: int = 2
    weighted: bool = True
    padding: Padding = "symmetric"
    norm: Norm = "batch"
    norm_epsilon: float = 1e-3
    bias: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, maps: tuple[Float[Array, "b _ _ _"], ...], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ d"], ...]:
        """The levels of the pyramid, finest first.

        Args:
            maps: Of the backbone, finest first; each at most twice as high and wide as the next.
            train: Whether batch norm uses, and updates, the statistics.
        """
        levels = [x.astype(self.dtype) for x in maps]
        for i in range(self.num_extra):
            x = _projected(self, levels[-1], f"extra_{{}}_{i}", train=train)
            levels.append(_halved(x, self.padding))
        for cell in range(self.num_cells):
            levels = self._cell(levels, f"cell_{cell}", train=train)
        return tuple(levels)

    def _cell(
        self, levels: list[Float[Array, "b _ _ _"]], name: str, *, train: bool
    ) -> list[Float[Array, "b _ _ d"]]:
        """One way from coarse to fine and one back: figure 3 (a node is a sum of maps).

        On the way back, a level sums its input, its sum of before, and the finer level.
        """
        count, maps = len(levels), list(levels)
        places = [[i] for i in range(count)]  # of each level's maps in `maps`

        def add(level: int, inputs: list[int]) -> None:
            node = BiFPNNode(
                self.dim,
                self.weighted,
                self.padding,
                self.norm,
                self.norm_epsilon,
                self.bias,
                self.dtype,
                name=f"{name}_node_{len(maps) - count}",
            )
            height, width = levels[level].shape[1:3]
            places[level].append(len(maps))
            maps.append(node({i: maps[i] for i in inputs}, (height, width), train=train))

        for i in reversed(range(count - 1)):
            add(i, [places[i][-1], places[i + 1][-1]])
        for i in range(1, count):
            add(i, [*places[i], places[i - 1][-1]])
        return maps[-count:]


class BiFPNNode(nn.Module):
    """The sum of some maps at one size, then SiLU, a separable convolution and a norm.

    For the attributes see `BiFPN`.
    """

    dim: int
    weighted: bool = True
    padding: Padding = "symmetric"
    norm: Norm = "batch"
    norm_epsilon: float = 1e-3
    bias: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        maps: dict[int, Float[Array, "b _ _ _"]],
        size: tuple[int, int],
        *,
        train: bool = False,
    ) -> Float[Array, "b h w d"]:
        """A map of the node's size.

        Args:
            maps: What is summed, by numbers that are part of the names of its convolutions.
            size: Height and width of the result.
            train: Whether batch norm uses, and updates, the statistics.
        """
        parts = []
        for number, x in maps.items():
            x = _projected(self, x, f"resample_{{}}_{number}", train=train)
            if x.shape[1] > size[0] and x.shape[2] > size[1]:
                x = _halved(x, self.padding)
            parts.append(x if x.shape[1:3] == size else enlarge_nearest(x, size))
        if self.weighted:
            weights = nn.relu(self.param("weights", nn.initializers.ones, (len(parts),)))
            weights = (weights / (weights.sum() + _EPSILON)).astype(self.dtype)
            parts = [weight * x for weight, x in zip(weights, parts, strict=True)]
        x = nn.silu(sum(parts[1:], start=parts[0]))
        x = SeparableConv(self.dim, bias=self.bias, dtype=self.dtype, name="conv")(x)
        return _norm(self, train=train)(name="norm")(x)


def _norm(module: BiFPN | BiFPNNode, *, train: bool) -> partial:
    options = {"train": train, "epsilon": module.norm_epsilon, "num_groups": 8}
    return norm_layer(module.norm, module.dtype, **options)


def _projected(
    module: BiFPN | BiFPNNode, x: Float[Array, "b h w c"], name: str, *, train: bool
) -> Float[Array, "b h w d"]:
    """A 1 x 1 convolution and a norm, if the map has another number of features."""
    if x.shape[-1] == module.dim:
        return x
    init = nn.initializers.xavier_uniform()
    options = {"bias": module.bias, "kernel_init": init, "dtype": module.dtype}
    x = conv_layer(module.dim, 1, name=name.format("conv"), **options)(x)
    return _norm(module, train=train)(name=name.format("norm"))(x)


def _halved(x: Float[Array, "b h w d"], padding: Padding) -> Float[Array, "b rows columns d"]:
    """The maxima of windows of 3 x 3 pixels, at every second pixel."""
    if padding == "symmetric":
        return max_pool(x, 3, 2, padding=1)
    around = jax.lax.padtype_to_pads(x.shape[1:3], (3, 3), (2, 2), "SAME")
    return max_pool(jnp.pad(x, ((0, 0), *around, (0, 0)), constant_values=-jnp.inf), 3, 2)
