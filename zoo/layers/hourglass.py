"""Stacked hourglasses: networks that repeatedly go from fine to coarse maps and back.

Papers: "Stacked Hourglass Networks for Human Pose Estimation", arXiv 1603.06937; in the form of
CornerNet, arXiv 1808.01244, section 4.1: strided convolutions instead of pooling, and residual
blocks of two 3 x 3 convolutions. References: the authors' ``kp`` and mmdet's `HourglassNet`, with
which outputs agree.

Deviation: coarse maps are enlarged to the size of the finer ones, as in mmdet; the authors double
them, which is the same if the sides are multiples of `StackedHourglass.coarsest_stride`.
"""

from functools import partial
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers.conv_norm import ConvNorm
from zoo.layers.norm import Norm
from zoo.ops.resample import enlarge_nearest
from zoo.types import InputError


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a residual.

    Attributes:
        dim: Features of the output.
        stride: Of the first convolution.
        norm: Kind of norm after each convolution.
        dtype: Dtype of the computation; parameters are float32.
    """

    dim: int
    stride: int = 1
    norm: Norm = "batch"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b h2 w2 dim"]:
        """The next map; the residual is projected if its shape differs."""
        layer = partial(ConvNorm, self.dim, norm=self.norm, dtype=self.dtype)
        y = layer(stride=self.stride, name="first")(x, train=train)
        y = layer(negative_slope=None, name="second")(y, train=train)
        if x.shape != y.shape:
            x = layer(1, self.stride, negative_slope=None, name="shortcut")(x, train=train)
        return nn.relu(x + y)


class Hourglass(nn.Module):
    """From a map to coarser and coarser ones, and back, with a branch beside each level.

    Attributes:
        dims: Features of the map of each level, finest first.
        num_blocks: Residual blocks of each level: in the branch beside it, on the way to the next
            level and on the way back; for the coarsest, between both ways.
        norm: Kind of norm.
        dtype: Dtype of the computation; parameters are float32.
    """

    dims: tuple[int, ...] = (256, 256, 384, 384, 384, 512)
    num_blocks: tuple[int, ...] = (2, 2, 2, 2, 2, 4)
    norm: Norm = "batch"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w d"], *, train: bool = False
    ) -> Float[Array, "b h w d"]:
        """A map of the same shape."""
        branches = []
        for i in range(len(self.dims) - 1):
            count = self.num_blocks[i]
            branches.append(self._blocks(x, f"skip_{i}", [self.dims[i]] * count, train=train))
            x = self._blocks(x, f"down_{i}", [self.dims[i + 1]] * count, 2, train=train)
        x = self._blocks(x, "middle", [self.dims[-1]] * self.num_blocks[-1], train=train)
        for i in reversed(range(len(self.dims) - 1)):
            dims = [self.dims[i + 1]] * (self.num_blocks[i] - 1) + [self.dims[i]]
            x = self._blocks(x, f"up_{i}", dims, train=train)
            x = branches[i] + enlarge_nearest(x, (branches[i].shape[1], branches[i].shape[2]))
        return x

    def _blocks(
        self,
        x: Float[Array, "b h w c"],
        name: str,
        dims: list[int],
        stride: int = 1,
        *,
        train: bool,
    ) -> Float[Array, "b h2 w2 d"]:
        """Residual blocks with these numbers of features; the first one has the stride."""
        for j, dim in enumerate(dims):
            block = ResidualBlock(
                dim, 1 if j else stride, self.norm, self.dtype, name=f"{name}_{j}"
            )
            x = block(x, train=train)
        return x


class StackedHourglass(nn.Module):
    """Images to a map of features after each of several hourglasses, for one head each.

    The defaults are those of "Hourglass-104".

    Attributes:
        dims: As in `Hourglass`.
        num_blocks: As in `Hourglass`.
        num_stacks: Number of hourglasses.
        out_dim: Features of the maps for the heads.
        stride: Pixels of the image between neighbours in the maps: 4, or 2, in which the second
            layer has no stride.
        norm: Kind of norm.
        dtype: Dtype of the computation; parameters are float32.
    """

    dims: tuple[int, ...] = (256, 256, 384, 384, 384, 512)
    num_blocks: tuple[int, ...] = (2, 2, 2, 2, 2, 4)
    num_stacks: int = 2
    out_dim: int = 256
    stride: Literal[2, 4] = 4
    norm: Norm = "batch"
    dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        """Checks the fields; raises InputError if one is out of its range."""
        if len(self.dims) != len(self.num_blocks) or min(self.num_blocks, default=0) < 1:
            raise InputError(
                f"dims {self.dims} need as many num_blocks of at least 1, not {self.num_blocks}"
            )
        if self.stride not in (2, 4) or self.num_stacks < 1:
            raise InputError(
                f"stride {self.stride} must be 2 or 4, num_stacks {self.num_stacks} 1 or more"
            )
        super().__post_init__()

    @property
    def coarsest_stride(self) -> int:
        """Pixels of the image between neighbours in the coarsest map."""
        return self.stride * 2 ** (len(self.dims) - 1)

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b rows columns d"], ...]:
        """A map after each hourglass; each hourglass gets what the one before it got and gave.

        Args:
            images: Normalised.
            train: Whether batch norm uses, and updates, the statistics.
        """
        more = {"norm": self.norm, "dtype": self.dtype}
        dim = self.dims[0]
        x = ConvNorm(dim // 2, 7, 2, name="stem", **more)(images, train=train)
        x = ResidualBlock(dim, self.stride // 2, name="stem_block", **more)(x, train=train)
        maps = []
        for i in range(self.num_stacks):
            y = Hourglass(self.dims, self.num_blocks, name=f"hourglass_{i}", **more)(x, train=train)
            y = ConvNorm(self.out_dim, name=f"out_{i}", **more)(y, train=train)
            maps.append(y)
            if i < self.num_stacks - 1:
                joined = [
                    ConvNorm(dim, 1, negative_slope=None, name=f"{name}_{i}", **more)(
                        z, train=train
                    )
                    for name, z in (("before", x), ("after", y))
                ]
                x = nn.relu(joined[0] + joined[1])
                x = ResidualBlock(dim, name=f"between_{i}", **more)(x, train=train)
        return tuple(maps)
