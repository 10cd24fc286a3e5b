"""ResNet.

Paper: "Deep Residual Learning for Image Recognition", arXiv 1512.03385, table 1. References:
timm's and torchvision's `resnet.py`, with which outputs agree: the stride of a bottleneck is in its
3 x 3 convolution ("v1.5"), unless `stride_in_1x1`, as in the paper's own weights, which detectron2
uses. Group normalisation: arXiv 1803.08494. ResNeXt: arXiv 1611.05431.

Deviations: the running variance is the biased one, where torch uses the unbiased one; the head is
initialised with zeros.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers import DropPath, Norm, conv_layer, norm_layer
from zoo.ops.pool import max_pool
from zoo.types import Preprocessing, check_choice

Kind = Literal["basic", "bottleneck"]


class Block(nn.Module):
    """Two 3 x 3 convolutions, or 1 x 1, 3 x 3 and 1 x 1, with a residual (figures 2 and 5).

    Attributes:
        kind: ``basic`` for two convolutions, ``bottleneck`` for three.
        dim: Features of all convolutions except a bottleneck's last.
        out_dim: Features of the output; in a basic block `dim`.
        stride: Stride of the first convolution, or of a bottleneck's second.
        norm: Kind of norm after each convolution.
        norm_epsilon: Added to the variance in norms.
        stride_in_1x1: Whether a bottleneck's stride is that of its first convolution instead.
        num_groups: Groups of features of a bottleneck's 3 x 3 convolution.
        dilations: Dilations of a basic block's two convolutions; a bottleneck uses only the first,
            for its 3 x 3 convolution. Each is a number or those of branches: see `conv_layer`.
        drop_path: Rate of dropping the branch for an example.
        dtype: Dtype of the computation; parameters are float32.
    """

    kind: Kind
    dim: int
    out_dim: int
    stride: int
    norm: Norm
    norm_epsilon: float = 1e-5
    stride_in_1x1: bool = False
    num_groups: int = 1
    dilations: tuple[int | tuple[int, ...], int | tuple[int, ...]] = (1, 1)
    drop_path: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b h2 w2 d"]:
        """The next feature map; training with drop path needs the ``dropout`` stream."""
        conv = partial(conv_layer, dtype=self.dtype)
        norm = norm_layer(self.norm, self.dtype, train=train, epsilon=self.norm_epsilon)
        first, second = self.dilations
        convs = [
            partial(conv, self.dim, 3, self.stride, dilation=first),
            partial(conv, self.out_dim, 3, dilation=second),
        ]
        if self.kind == "bottleneck":
            outer, inner = (self.stride, 1) if self.stride_in_1x1 else (1, self.stride)
            convs = [
                partial(conv, self.dim, 1, outer),
                partial(conv, self.dim, 3, inner, dilation=first, groups=self.num_groups),
                partial(conv, self.out_dim, 1),
            ]

        y = x
        for i, layer in enumerate(convs, start=1):
            last = i == len(convs)
            scale_init = nn.initializers.zeros if last else nn.initializers.ones
            y = norm(scale_init=scale_init, name=f"norm{i}")(layer(name=f"conv{i}")(y))
            y = y if last else nn.relu(y)
        if x.shape != y.shape:
            x = conv(self.out_dim, 1, self.stride, name="shortcut_conv")(x)
            x = norm(name="shortcut_norm")(x)
        return nn.relu(x + DropPath(self.drop_path)(y, train=train))


class ResNet(nn.Module):
    """Images to logits.

    Attributes:
        num_classes: Classes of the head; 0 gives the pooled features instead of logits.
        block: ``basic``, with two 3 x 3 convolutions in a block, or ``bottleneck``.
        num_blocks: Number of blocks in each stage.
        stage_dims: Features of the 3 x 3 convolutions of each stage; a bottleneck's output has four
            times as many.
        stem_dim: Features of the first convolution.
        dilated_stages: Number of last stages that keep the resolution of the stage before them:
            dilation replaces their stride (1 for the DC5 of detectors, 2 for DeepLab).
        stride_in_1x1: Whether the stride of a bottleneck is in its first convolution, as in the
            paper, and not in its 3 x 3 convolution.
        num_groups: Groups of features of a bottleneck's 3 x 3 convolution: ResNeXt's cardinality.
        group_dim: Features of a group where `stage_dims` is 64; the 3 x 3 convolutions then have
            ``stage_dim * group_dim / 64 * num_groups`` features.
        norm: ``batch`` updates ``batch_stats`` in training; ``frozen`` uses the same variables as
            constants; ``group`` has 32 groups and no statistics.
        norm_epsilon: Added to the variance in norms; 0 for some of torchvision's detectors.
        drop_path: Rate of drop path in the last block, rising linearly from 0 in the first.
        dtype: Dtype of the computation; parameters and the head are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 1000
    block: Kind = "bottleneck"
    num_blocks: tuple[int, ...] = (3, 4, 6, 3)
    stage_dims: tuple[int, ...] = (64, 128, 256, 512)
    stem_dim: int = 64
    dilated_stages: int = 0
    stride_in_1x1: bool = False
    num_groups: int = 1
    group_dim: int = 64
    norm: Norm = "batch"
    norm_epsilon: float = 1e-5
    drop_path: float = 0.0
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def setup(self) -> None:
        """Checks the fields and makes the head; `pyramid` makes the stages."""
        check_choice("norm", self.norm, Norm)
        check_choice("block", self.block, Kind)
        if not 0 <= self.dilated_stages < len(self.num_blocks):
            raise ValueError(
                f"dilated_stages={self.dilated_stages} is not in 0..{len(self.num_blocks) - 1}"
            )
        if self.block == "basic" and (self.num_groups, self.group_dim) != (1, 64):
            raise ValueError("only bottlenecks have groups: num_groups and group_dim")
        if self.num_classes:
            self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)

    def feature_maps(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The last map of each stage, finest first; in training batch norm updates its state."""
        return self.pyramid(images, train=train)[1:]

    @nn.compact
    def pyramid(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The stem's map, of stride 2, and then the maps of the stages: see `feature_maps`."""
        norm = norm_layer(self.norm, self.dtype, train=train, epsilon=self.norm_epsilon)
        x = images.astype(self.dtype)
        x = conv_layer(self.stem_dim, 7, 2, dtype=self.dtype, name="stem_conv")(x)
        x = stem = nn.relu(norm(name="stem_norm")(x))
        x = max_pool(x, 3, 2, padding=1)

        return (stem, *run_stages(self, x, train=train))

    @nn.nowrap
    def dilation(self, stage: int) -> int:
        """Dilation of the convolutions of a stage."""
        return 2 ** max(0, stage + 1 - (len(self.num_blocks) - self.dilated_stages))

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Stride of each feature map, in pixels."""
        stages = range(len(self.num_blocks))
        return tuple(4 * 2**i // self.dilation(i) for i in stages)

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b k"]:
        """Logits of normalised images."""
        x = self.feature_maps(images, train=train)[-1].mean(axis=(1, 2))
        return self.head(x) if self.num_classes else x


def run_stages(
    net: ResNet,
    x: Float[Array, "b h w c"],
    first: int = 0,
    branches: tuple[int, ...] = (),
    *,
    train: bool,
) -> tuple[Float[Array, "b _ _ _"], ...]:
    """The maps of the stages of a network, finest first; the calling module has their blocks.

    Args:
        net: The fields of the network.
        x: The map before stage `first`.
        first: Number of the first stage, from 0.
        branches: Dilations of all 3 x 3 convolutions, one for each branch: see `conv_layer`. If it
            is empty, `ResNet.dilation` has them.
        train: Whether batch norm is in training.
    """
    maps, count, last = [], sum(net.num_blocks[:first]), max(sum(net.num_blocks) - 1, 1)
    before = net.dilation(first - 1)
    for i, (depth, dim) in enumerate(zip(net.num_blocks, net.stage_dims, strict=True)):
        if i < first:
            continue
        dilation = net.dilation(i)
        for j in range(depth):
            x = Block(
                net.block,
                dim * net.group_dim // 64 * net.num_groups,
                out_dim=dim if net.block == "basic" else 4 * dim,
                stride=2 if i > 0 and j == 0 and dilation == before else 1,
                norm=net.norm,
                norm_epsilon=net.norm_epsilon,
                stride_in_1x1=net.stride_in_1x1,
                num_groups=net.num_groups,
                # Dilation replaces this stride, so the first block's input is not yet dilated.
                dilations=(branches or (before if j == 0 else dilation), branches or dilation),
                drop_path=net.drop_path * count / last,
                dtype=net.dtype,
                name=f"stages_{i}_{j}",
            )(x, train=train)
            count += 1
        maps.append(x)
        before = dilation
    return tuple(maps)


class LastStages(ResNet):
    """The stages of a ResNet from one on; see `split`.

    Attributes:
        first: Number of the first of these stages, from 0.
    """

    first: int = 0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], branches: tuple[int, ...] = (), *, train: bool = False
    ) -> Float[Array, "b h2 w2 d"]:
        """The last map, of the map before the first of the stages; `run_stages` has `branches`."""
        return run_stages(self, x, self.first, branches, train=train)[-1]


def split(net: ResNet, first: int) -> tuple[ResNet, Callable[..., LastStages]]:
    """Two networks that compute what `net` does, one after the other, with the same names.

    Detectors on the fourth map of a ResNet ("C4") have the first three stages as the body and the
    last one as a head for regions (arXiv 1512.03385, appendix A).

    Args:
        net: A network without a head.
        first: Number of the first stage of the second part, from 1.

    Returns:
        The first part, and what makes the second one, such as a module that it will belong to.
    """
    count, blocks = len(net.num_blocks), net.num_blocks[:first]
    share = (sum(blocks) - 1) / max(sum(net.num_blocks) - 1, 1)
    body = net.clone(
        num_blocks=blocks,
        stage_dims=net.stage_dims[:first],
        dilated_stages=max(0, net.dilated_stages - (count - first)),
        drop_path=net.drop_path * share,
    )
    names = {field.name for field in dataclasses.fields(net)} - {"parent", "name"}
    return body, partial(LastStages, **{name: getattr(net, name) for name in names}, first=first)
