"""Deep layer aggregation (DLA).

Paper: "Deep Layer Aggregation", arXiv 1707.06484, figure 3 and table 1. Reference: timm's `dla.py`,
for names and numbers.

Deviations: only basic blocks, as in DLA-34; the running variance is the biased one, where torch
uses the unbiased one; the head is initialised with zeros. Height and width of images must be
multiples of the last stride.
"""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers import Norm, conv_layer, norm_layer
from zoo.ops.pool import max_pool
from zoo.types import Preprocessing, check_choice

_Maps = tuple[Float[Array, "b _ _ _"], ...]


class Block(nn.Module):
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
        self, x: Float[Array, "b h w c"], shortcut: Float[Array, "b h2 w2 d"], *, train: bool
    ) -> Float[Array, "b h2 w2 d"]:
        """The next map; `shortcut` is added before the last ReLU."""
        conv = partial(conv_layer, self.dim, 3, dtype=self.dtype)
        norm = norm_layer(self.norm, self.dtype, train=train)
        x = nn.relu(norm(name="norm1")(conv(self.stride, name="conv1")(x)))
        x = norm(name="norm2")(conv(name="conv2")(x))
        return nn.relu(x + shortcut)


class Tree(nn.Module):
    """Blocks whose maps are aggregated hierarchically: figure 3 (d) and (f).

    A tree of depth 1 has two blocks and a root, a 1 x 1 convolution of their maps and of those
    that are handed down to it. A deeper one has two trees; the second one is also handed the map
    of the first.

    Attributes:
        depth: At least 1.
        dim: Features of the output.
        stride: Of the first block.
        keep_input: Whether the root also sees the tree's input, pooled to the output's resolution.
        norm: Kind of norm after each convolution.
        dtype: Dtype of the computation; parameters are float32.
    """

    depth: int
    dim: int
    stride: int = 1
    keep_input: bool = False
    norm: Norm = "batch"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], handed: _Maps = (), *, train: bool
    ) -> Float[Array, "b h2 w2 d"]:
        """The next map; `handed` are maps of its resolution that the last root sees, too."""
        bottom = max_pool(x, self.stride, self.stride) if self.stride > 1 else x
        if self.keep_input:
            handed = (*handed, bottom)
        options = {"norm": self.norm, "dtype": self.dtype}
        if self.depth > 1:
            first = Tree(self.depth - 1, self.dim, self.stride, name="tree1", **options)
            x = first(x, train=train)
            second = Tree(self.depth - 1, self.dim, name="tree2", **options)
            return second(x, (*handed, x), train=train)

        conv = partial(conv_layer, self.dim, 1, dtype=self.dtype)
        norm = norm_layer(self.norm, self.dtype, train=train)
        if bottom.shape[-1] != self.dim:
            bottom = norm(name="shortcut_norm")(conv(name="shortcut_conv")(bottom))
        x = Block(self.dim, self.stride, name="tree1", **options)(x, bottom, train=train)
        y = Block(self.dim, name="tree2", **options)(x, x, train=train)
        x = conv(name="root_conv")(jnp.concatenate([y, x, *handed], axis=-1))
        return nn.relu(norm(name="root_norm")(x))


class DLA(nn.Module):
    """Images to logits.

    Attributes:
        num_classes: Classes of the head; 0 gives the pooled features instead of logits.
        depths: Of each level: convolutions of the first two, depth of the tree of the others.
        level_dims: Features of each level.
        norm: ``batch`` updates ``batch_stats`` in training; ``frozen`` uses the same variables as
            constants; ``group`` has 32 groups and no statistics.
        dropout: Rate of dropout before the head.
        dtype: Dtype of the computation; parameters and the head are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 1000
    depths: tuple[int, ...] = (1, 1, 1, 2, 2, 1)
    level_dims: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    norm: Norm = "batch"
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def feature_maps(self, images: Float[Array, "b h w c"], *, train: bool = False) -> _Maps:
        """The maps of the trees, finest first; in training batch norm updates its state."""
        return self.levels(images, train=train)[2:]

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Stride of each feature map, in pixels."""
        return tuple(2**i for i in range(2, len(self.depths)))

    @nn.compact
    def levels(self, images: Float[Array, "b h w c"], *, train: bool = False) -> _Maps:
        """The map of each level; level i has the stride ``2 ** i``."""
        check_choice("norm", self.norm, Norm)
        norm = norm_layer(self.norm, self.dtype, train=train)
        conv = partial(conv_layer, dtype=self.dtype)
        x = conv(self.level_dims[0], 7, name="stem_conv")(images.astype(self.dtype))
        x = nn.relu(norm(name="stem_norm")(x))
        maps = []
        for i, (depth, dim) in enumerate(zip(self.depths, self.level_dims, strict=True)):
            if i < 2:
                for j in range(depth):
                    name, stride = f"levels_{i}_{{}}_{j}", 2 if i == 1 and j == 0 else 1
                    x = conv(dim, 3, stride, name=name.format("conv"))(x)
                    x = nn.relu(norm(name=name.format("norm"))(x))
            else:
                options = {"keep_input": i > 2, "norm": self.norm, "dtype": self.dtype}
                x = Tree(depth, dim, 2, name=f"levels_{i}", **options)(x, train=train)
            maps.append(x)
        return tuple(maps)

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b k"]:
        """Logits of normalised images; training with dropout needs the ``dropout`` stream."""
        x = self.levels(images, train=train)[-1].mean(axis=(1, 2)).astype(jnp.float32)
        if not self.num_classes:
            return x
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")(x)
