"""Darknet: the networks of the YOLO detectors.

Papers: "YOLO9000: Better, Faster, Stronger", arXiv 1612.08242, table 6 (Darknet-19); "YOLOv3: An
Incremental Improvement", arXiv 1804.02767, table 1 (Darknet-53); "You Only Look Once", arXiv
1506.02640, figure 3, first 20 layers (Extraction). References: the files ``cfg/*.cfg`` of
pjreddie/darknet, whose compiled program gives the same outputs; timm's `darknet53` and mmdet's
`Darknet`.

Deviations: batch norm adds `norm_epsilon` to the variance, as darknet does on GPUs, mmdet and timm;
darknet's program for CPUs adds 1e-6 to the standard deviation. The head starts at zero.
"""

import itertools

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers import ConvNorm, Norm
from zoo.ops.pool import max_pool, max_pool_same
from zoo.types import Preprocessing


class Darknet(nn.Module):
    """Images to logits.

    The convolutions are ``conv_0``, ``conv_1``, ..., in the order of darknet's files. A stage ends
    where the resolution halves: by 2 x 2 max pooling, or, in a residual network, by the stride of
    the next stage's first convolution.

    Attributes:
        num_classes: Classes of the head; 0 gives the pooled features instead of logits.
        num_convs: Convolutions of each stage.
        conv_dims: Features of each convolution.
        conv_sizes: Height and width of the kernel of each convolution.
        stem_stride: Stride of the first convolution.
        last_pool_stride: Stride of the last pooling; with 1 the map keeps its size, as in the tiny
            detectors.
        residual: Whether the convolutions of a stage after its first one form pairs, each with a
            shortcut (Darknet-53).
        leaky_head: Whether the logits of each place pass a leaky ReLU before their mean, as in
            Extraction; else the mean of the features is classified, which is equal to darknet's
            mean of logits.
        norm: ``batch`` updates ``batch_stats`` in training; ``frozen`` uses the same variables as
            constants.
        norm_epsilon: Added to the variance in norms.
        norm_momentum: Share of the old statistics that a step of training keeps.
        negative_slope: Factor of negative values in activations: darknet's 0.1; 0.01 in timm.
        dtype: Dtype of the computation; parameters and the head are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 1000
    num_convs: tuple[int, ...] = (1, 1, 1, 1, 1, 1, 1)
    conv_dims: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    conv_sizes: tuple[int, ...] = (3, 3, 3, 3, 3, 3, 3)
    stem_stride: int = 1
    last_pool_stride: int = 2
    residual: bool = False
    leaky_head: bool = False
    norm: Norm = "batch"
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.99
    negative_slope: float = 0.1
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def setup(self) -> None:
        """Checks the fields and makes the head; `stages` makes the convolutions."""
        count = sum(self.num_convs)
        if not count == len(self.conv_dims) == len(self.conv_sizes):
            raise ValueError(
                f"num_convs are {count}, but there are {len(self.conv_dims)} conv_dims and"
                f" {len(self.conv_sizes)} conv_sizes"
            )
        if self.num_classes:
            self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)

    @nn.compact
    def stages(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The last map of each stage, finest first."""
        layers = iter(zip(self.conv_dims, self.conv_sizes, strict=True))
        maps, x, number = [], images.astype(self.dtype), itertools.count()
        for i, depth in enumerate(self.num_convs):
            if i and not self.residual:
                last = i == len(self.num_convs) - 1 and self.last_pool_stride == 1
                x = max_pool_same(x, 2) if last else max_pool(x, 2, 2, ceil=True)
            start = x
            for j, (dim, size) in enumerate(itertools.islice(layers, depth)):
                stride = self._stride(i, j)
                x = self._conv(x, dim, size, stride, next(number), train=train)
                if self.residual and j % 2 == 0:
                    x = start = x + start if j else x
            maps.append(x)
        return tuple(maps)

    def _conv(
        self, x: Float[Array, "b h w c"], dim: int, size: int, stride: int, n: int, *, train: bool
    ) -> Float[Array, "b rows columns d"]:
        layer = ConvNorm(
            dim,
            size,
            stride,
            norm=self.norm,
            norm_epsilon=self.norm_epsilon,
            norm_momentum=self.norm_momentum,
            negative_slope=self.negative_slope,
            dtype=self.dtype,
            name=f"conv_{n}",
        )
        return layer(x, train=train)

    @property
    def conv_names(self) -> tuple[str, ...]:
        """Names of the convolutions, in the order of darknet's files."""
        return tuple(f"conv_{number}" for number in range(sum(self.num_convs)))

    @nn.nowrap
    def _stride(self, stage: int, conv: int) -> int:
        """The stride of a convolution, by its number in its stage."""
        if conv:
            return 1
        return self.stem_stride if stage == 0 else (2 if self.residual else 1)

    @nn.nowrap
    def stage_strides(self) -> tuple[int, ...]:
        """Stride of the map of each stage, in pixels."""
        steps = [self.stem_stride] + [2] * (len(self.num_convs) - 1)
        if not self.residual:
            steps[-1] = self.last_pool_stride
        return tuple(np.cumprod(steps).tolist())

    @nn.nowrap
    def _used(self) -> list[int]:
        """The stages whose maps are `feature_maps`: the last one of each stride from 4 on."""
        strides = (*self.stage_strides(), 0)
        return [i for i, (a, b) in enumerate(itertools.pairwise(strides)) if a != b and a >= 4]

    def feature_maps(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The last map of each stride from 4 on, finest first."""
        maps = self.stages(images, train=train)
        return tuple(maps[i] for i in self._used())

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Stride of each feature map, in pixels."""
        return tuple(self.stage_strides()[i] for i in self._used())

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b k"]:
        """Logits of normalised images."""
        x = self.stages(images, train=train)[-1]
        if self.num_classes and self.leaky_head:
            logits = self.head(x.astype(jnp.float32))
            return nn.leaky_relu(logits, self.negative_slope).mean(axis=(1, 2))
        x = x.mean(axis=(1, 2))
        return self.head(x) if self.num_classes else x
