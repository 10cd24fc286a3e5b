"""VGG.

Paper: "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv 1409.1556, table
1; batch norm, arXiv 1502.03167, came later. References: timm's and torchvision's `vgg.py`, with
which outputs agree.

Deviations: the head is initialised with zeros. For images of other sizes than that of the name the
layers after the pooling do what timm's do; torchvision's first pool to 7 x 7.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers import Norm, conv_layer, norm_layer
from zoo.ops.pool import max_pool
from zoo.types import Preprocessing, check_choice


class VGG(nn.Module):
    """Images to logits.

    Attributes:
        num_classes: Classes of the head; 0 gives the head's input instead of logits.
        num_convs: 3 x 3 convolutions of each stage.
        stage_dims: Their features.
        hidden_dim: Features of the two layers before the head.
        map_size: Rows and columns of the last map that the first of these layers sees at once.
        ceil_stages: Indices of the stages whose pooling counts a last, incomplete window: 2 in SSD.
        norm: Norm after each convolution: ``batch``, ``frozen``, ``group`` with 8 groups, or None
            for none.
        dropout: Dropout rate after the two layers before the head; 0.5 in the paper.
        dtype: Dtype of the computation; parameters and the head are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 1000
    num_convs: tuple[int, ...] = (2, 2, 3, 3, 3)
    stage_dims: tuple[int, ...] = (64, 128, 256, 512, 512)
    hidden_dim: int = 4096
    map_size: int = 7
    ceil_stages: tuple[int, ...] = ()
    norm: Norm | None = None
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def setup(self) -> None:
        """Checks the fields and makes the layers after the pooling; `stages` makes the others."""
        if self.norm is not None:
            check_choice("norm", self.norm, Norm)
        if len(self.num_convs) != len(self.stage_dims):
            raise ValueError(
                "num_convs and stage_dims must have a number for each stage; they have"
                f" {len(self.num_convs)} and {len(self.stage_dims)}"
            )
        size = (self.map_size, self.map_size)
        self.hidden_0 = nn.Conv(self.hidden_dim, size, padding="VALID", dtype=self.dtype)
        self.hidden_1 = nn.Dense(self.hidden_dim, dtype=self.dtype)
        self.hidden_dropout = nn.Dropout(self.dropout)
        if self.num_classes:
            self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)

    @nn.compact
    def stages(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The last map of each stage, before its pooling; finest first, of strides 1, 2, ..."""
        norm = None
        if self.norm is not None:
            norm = norm_layer(self.norm, self.dtype, train=train, num_groups=8)
        maps, x = [], images.astype(self.dtype)
        for i, (depth, dim) in enumerate(zip(self.num_convs, self.stage_dims, strict=True)):
            if i:
                x = max_pool(x, 2, 2, ceil=i - 1 in self.ceil_stages)
            for j in range(depth):
                name = f"stages_{i}_conv_{j}"
                x = conv_layer(dim, 3, bias=True, dtype=self.dtype, name=name)(x)
                if norm is not None:
                    x = norm(name=f"stages_{i}_norm_{j}")(x)
                x = nn.relu(x)
            maps.append(x)
        return tuple(maps)

    def feature_maps(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The last maps of the stages from stride 4 on and, last, what is pooled from the last."""
        maps = self.stages(images, train=train)
        pooled = max_pool(maps[-1], 2, 2, ceil=len(maps) - 1 in self.ceil_stages)
        return (*maps[2:], pooled)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Stride of each feature map, in pixels."""
        return tuple(2**i for i in range(2, len(self.num_convs) + 1))

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b k"]:
        """Logits of normalised images; training with dropout needs the ``dropout`` stream."""
        x = self.feature_maps(images, train=train)[-1]
        x = _at_least(x, self.map_size)
        drop = partial(self.hidden_dropout, deterministic=not train)
        x = drop(nn.relu(self.hidden_0(x)))
        x = nn.relu(self.hidden_1(x)).mean(axis=(1, 2))
        x = drop(x.astype(jnp.float32))
        return self.head(x) if self.num_classes else x


def _at_least(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b h2 w2 c"]:
    """The map, with means of neighbouring pixels if it has fewer rows or columns than `size`.

    As torch's adaptive pooling: row i of the result is the mean of the rows from ``i * h / size``,
    rounded down, to ``(i + 1) * h / size``, rounded up.
    """
    for axis in (1, 2):
        have = x.shape[axis]
        if have >= size:
            continue
        parts = []
        for i in range(size):
            start, stop = i * have // size, -(-(i + 1) * have // size)
            part = jax.lax.slice_in_dim(x, start, stop, axis=axis)
            parts.append(part.mean(axis=axis, keepdims=True))
        x = jnp.concatenate(parts, axis=axis)
    return x
