"""ResNet.

Paper: "Deep Residual Learning for Image Recognition", arXiv 1512.03385, table 1. References:
timm's and torchvision's `resnet.py`, whose names and numbers these are: the stride of a bottleneck
is in its 3 x 3 convolution ("v1.5"). Group normalisation: arXiv 1803.08494.

Deviations: the running variance is of the biased kind, torch's of the unbiased; the head starts at
zero.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers import DropPath, Norm, norm_layer
from zoo.ops.pool import max_pool
from zoo.types import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant, check_choice

Kind = Literal["basic", "bottleneck"]


def _conv(
    dim: int, size: int, stride: int, dtype: DTypeLike, name: str, dilation: int = 1
) -> nn.Conv:
    """A convolution without bias, padded by half its extent on both sides as in torch."""
    return nn.Conv(
        dim,
        (size, size),
        stride,
        padding=dilation * (size // 2),
        kernel_dilation=dilation,
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        conv_general_dilated=_pointwise if size == 1 else None,
        name=name,
    )


def _pointwise(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "1 1 c d"],
    strides: Sequence[int],
    *_: object,
    precision: jax.lax.PrecisionLike = None,
    **__: object,
) -> Float[Array, "b rows columns d"]:
    """A 1 x 1 convolution as a matrix product, of which XLA's CPU code is faster."""
    x = x[:, :: strides[0], :: strides[1]]
    return jnp.einsum("bhwc,cd->bhwd", x, kernel[0, 0], precision=precision)


class Block(nn.Module):
    """Two 3 x 3 convolutions, or 1 x 1, 3 x 3 and 1 x 1, with a residual (figures 2 and 5).

    Attributes:
        kind: Which of the two.
        dim: Features of the 3 x 3 convolutions; a bottleneck puts out four times as many.
        stride: Of the first, or a bottleneck's second, convolution.
        dilations: Of a basic block's two convolutions; the first is of a bottleneck's second.
        norm: After each convolution.
        drop_path: Rate of dropping the branch for an example.
        axis_name: Of a mapped axis over which the batch's statistics are taken.
        dtype: Of the computation; parameters are float32.
    """

    kind: Kind
    dim: int
    stride: int
    norm: Norm
    dilations: tuple[int, int] = (1, 1)
    drop_path: float = 0.0
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b h2 w2 d"]:
        """The next feature map; training with drop path needs the ``dropout`` stream."""
        conv = partial(_conv, dtype=self.dtype)
        norm = norm_layer(self.norm, self.axis_name, self.dtype, train=train)
        if self.kind == "basic":
            first, second = self.dilations
            layers = [(self.dim, 3, self.stride, first), (self.dim, 3, 1, second)]
        else:
            middle = (self.dim, 3, self.stride, self.dilations[0])
            layers = [(self.dim, 1, 1, 1), middle, (4 * self.dim, 1, 1, 1)]

        y = x
        for i, (dim, size, stride, dilation) in enumerate(layers, start=1):
            last = i == len(layers)
            y = conv(dim, size, stride, name=f"conv{i}", dilation=dilation)(y)
            scale_init = nn.initializers.zeros if last else nn.initializers.ones
            y = norm(scale_init=scale_init, name=f"norm{i}")(y)
            y = y if last else nn.relu(y)
        if x.shape != y.shape:
            x = conv(y.shape[-1], 1, self.stride, name="shortcut_conv")(x)
            x = norm(name="shortcut_norm")(x)
        return nn.relu(x + DropPath(self.drop_path)(y, train=train))


class ResNet(nn.Module):
    """Images to logits.

    Attributes:
        num_classes: Classes of the head; 0 gives the pooled features instead of logits.
        block: Two 3 x 3 convolutions a block, or a bottleneck.
        num_blocks: Blocks of each stage.
        stage_dims: Features of the 3 x 3 convolutions of each stage.
        stem_dim: Features of the first convolution.
        dilated_stages: Last stages that keep the resolution of the one before them: dilated
            convolutions stand for their stride (1 for the DC5 of detectors, 2 for DeepLab).
        norm: ``batch``, which updates ``batch_stats`` in training; ``frozen``, the same variables
            as constants; ``group``, of 32 groups and without statistics.
        drop_path: Rate of drop path in the last block, rising linearly from 0 in the first.
        axis_name: Of a mapped axis (pmap) over which the batch's statistics are taken.
        dtype: Of the computation; parameters, and the head, are float32.
    """

    num_classes: int = 1000
    block: Kind = "bottleneck"
    num_blocks: tuple[int, ...] = (3, 4, 6, 3)
    stage_dims: tuple[int, ...] = (64, 128, 256, 512)
    stem_dim: int = 64
    dilated_stages: int = 0
    norm: Norm = "batch"
    drop_path: float = 0.0
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Checks the parts' names and makes the head; the stages are made where they are used."""
        check_choice("norm", self.norm, Norm)
        check_choice("block", self.block, Kind)
        if not 0 <= self.dilated_stages < len(self.num_blocks):
            raise ValueError(
                f"dilated_stages={self.dilated_stages} is not in 0..{len(self.num_blocks) - 1}"
            )
        if self.num_classes:
            self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)

    def feature_maps(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The last map of each stage, finest first; training of batch norm updates its state."""
        return self.pyramid(images, train=train)[1:]

    @nn.compact
    def pyramid(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The stem's map, of stride 2, before those of the stages: see `feature_maps`."""
        norm = norm_layer(self.norm, self.axis_name, self.dtype, train=train)
        x = _conv(self.stem_dim, 7, 2, self.dtype, name="stem_conv")(images.astype(self.dtype))
        x = stem = nn.relu(norm(name="stem_norm")(x))
        x = max_pool(x, 3, 2, padding=1)

        maps, count, last, before = [stem], 0, max(sum(self.num_blocks) - 1, 1), 1
        for i, (depth, dim) in enumerate(zip(self.num_blocks, self.stage_dims, strict=True)):
            dilation = self._dilation(i)
            for j in range(depth):
                x = Block(
                    self.block,
                    dim,
                    stride=2 if i > 0 and j == 0 and dilation == before else 1,
                    norm=self.norm,
                    # The first block's stride falls away, so its input is not yet dilated.
                    dilations=(before if j == 0 else dilation, dilation),
                    drop_path=self.drop_path * count / last,
                    axis_name=self.axis_name,
                    dtype=self.dtype,
                    name=f"stages_{i}_{j}",
                )(x, train=train)
                count += 1
            maps.append(x)
            before = dilation
        return tuple(maps)

    @nn.nowrap
    def _dilation(self, stage: int) -> int:
        return 2 ** max(0, stage + 1 - (len(self.num_blocks) - self.dilated_stages))

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Pixels between neighbours in each of the feature maps."""
        stages = range(len(self.num_blocks))
        return tuple(4 * 2**i // self._dilation(i) for i in stages)

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b k"]:
        """Logits of normalised images."""
        x = self.feature_maps(images, train=train)[-1].mean(axis=(1, 2))
        return self.head(x) if self.num_classes else x


def _variant(
    num_blocks: tuple[int, ...],
    image_size: int = 224,
    *,
    crop_fraction: float = 0.95,
    **fields: object,
) -> Variant:
    build = partial(ResNet, num_blocks=num_blocks, **fields)
    size = (image_size, image_size)
    # timm's crop and filter; torchvision's first weights used 0.875 and bilinear.
    preprocessing = Preprocessing(size, IMAGENET_MEAN, IMAGENET_STD, "bicubic", crop_fraction)
    return Variant(build, preprocessing)


# Blocks of each stage: arXiv 1512.03385, table 1.
VARIANTS = {
    # Not the paper's: for tests, demos and small images.
    "resnet_nano": _variant((1, 1, 1, 1), 64, block="basic", stage_dims=(16, 32, 64, 128)),
    "resnet18": _variant((2, 2, 2, 2), block="basic"),
    "resnet34": _variant((3, 4, 6, 3), block="basic"),
    "resnet50": _variant((3, 4, 6, 3)),
    "resnet50_gn": _variant((3, 4, 6, 3), norm="group", crop_fraction=0.94),
    "resnet101": _variant((3, 4, 23, 3)),
    "resnet152": _variant((3, 8, 36, 3)),
}
