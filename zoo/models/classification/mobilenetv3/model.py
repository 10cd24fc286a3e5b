"""MobileNetV3.

Paper: "Searching for MobileNetV3", arXiv 1905.02244, tables 1 and 2. References: timm's and
torchvision's `mobilenetv3.py`, with which outputs agree.

Deviations: running statistics move by a tenth a step, as timm's; torchvision's and the paper's move
by a hundredth. The running variance is the biased one. The head is initialised with zeros.
"""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers import Norm, conv_layer
from zoo.models.classification.parts.inverted_residual import (
    BlockMaps,
    InvertedResidual,
    block_norm,
    round_dim,
)
from zoo.types import Preprocessing, check_choice


class MobileNetV3(nn.Module):
    """Images to logits.

    The fields with one number for each block are the columns of the paper's tables.

    Attributes:
        num_classes: Classes of the head; 0 gives the head's input instead of logits.
        stem_dim: Features of the first convolution.
        kernel_sizes: Of the blocks' middle convolutions.
        expanded_dims: Features of these convolutions.
        block_dims: Features of the blocks' outputs.
        strides: Of the blocks.
        squeeze_blocks: Indices of the blocks with squeeze-and-excitation.
        num_relu_blocks: Number of first blocks whose activation is ReLU; the others' is hard-swish.
        last_dim: Features of the last convolution, before the pooling.
        hidden_dim: Features of the layer after the pooling.
        map_blocks: Indices of the blocks whose outputs are the `feature_maps`, ascending; the
            number of blocks stands for the last convolution. Empty: the last map of each stride.
        norm: ``batch`` updates ``batch_stats`` in training; ``frozen`` uses the same variables as
            constants; ``group`` has 8 groups and no statistics.
        norm_epsilon: Added to the variance in norms; torchvision's classifiers have 1e-3.
        dropout: Dropout rate before the head.
        drop_path: Rate of drop path in the last block, rising linearly from 0 in the first.
        dtype: Dtype of the computation; parameters and the head are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 1000
    stem_dim: int = 16
    kernel_sizes: tuple[int, ...] = (3, 3, 3, 5, 5, 5, 3, 3, 3, 3, 3, 3, 5, 5, 5)
    expanded_dims: tuple[int, ...] = (
        *(16, 64, 72, 72, 120, 120, 240, 200, 184, 184),
        *(480, 672, 672, 960, 960),
    )
    block_dims: tuple[int, ...] = (
        *(16, 24, 24, 40, 40, 40, 80, 80, 80, 80),
        *(112, 112, 160, 160, 160),
    )
    strides: tuple[int, ...] = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1)
    squeeze_blocks: tuple[int, ...] = (3, 4, 5, 10, 11, 12, 13, 14)
    num_relu_blocks: int = 6
    last_dim: int = 960
    hidden_dim: int = 1280
    map_blocks: tuple[int, ...] = ()
    norm: Norm = "batch"
    norm_epsilon: float = 1e-5
    dropout: float = 0.0
    drop_path: float = 0.0
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def setup(self) -> None:
        """Checks the fields and makes the layers after the pooling; `maps` makes the others."""
        check_choice("norm", self.norm, Norm)
        columns = (self.kernel_sizes, self.expanded_dims, self.block_dims, self.strides)
        if len(set(map(len, columns))) != 1:
            raise ValueError(
                "kernel_sizes, expanded_dims, block_dims and strides must have a number for each"
                f" block; they have {', '.join(str(len(column)) for column in columns)}"
            )
        if not all(0 <= i <= len(self.strides) for i in self.map_blocks):
            raise ValueError(f"map_blocks {self.map_blocks} are not in 0..{len(self.strides)}")
        self.hidden = nn.Dense(self.hidden_dim, dtype=self.dtype)
        self.head_dropout = nn.Dropout(self.dropout)
        if self.num_classes:
            self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)

    @nn.compact
    def maps(
        self, images: Float[Array, "b h w c"], last: int, *, train: bool = False
    ) -> list[BlockMaps]:
        """The maps of the blocks and of the last convolution, up to the index `last`."""
        conv = partial(conv_layer, dtype=self.dtype)
        norm = block_norm(self, train=train)
        x = conv(self.stem_dim, 3, 2, name="stem_conv")(images.astype(self.dtype))
        x = nn.hard_swish(norm(name="stem_norm")(x))

        found, count = [], len(self.strides)
        for i in range(min(last + 1, count)):
            block = InvertedResidual(
                self.expanded_dims[i],
                self.block_dims[i],
                self.kernel_sizes[i],
                self.strides[i],
                squeeze_dim=round_dim(self.expanded_dims[i] // 4) * (i in self.squeeze_blocks),
                activation="relu" if i < self.num_relu_blocks else "hard_swish",
                squeeze_activation="relu",
                gate="hard_sigmoid",
                norm=self.norm,
                norm_epsilon=self.norm_epsilon,
                drop_path=self.drop_path * i / max(count - 1, 1),
                dtype=self.dtype,
                name=f"blocks_{i}",
            )
            found.append(block(x, train=train))
            x = found[-1].output
        if last == count:
            x = norm(name="last_norm")(conv(self.last_dim, 1, name="last_conv")(x))
            x = nn.hard_swish(x)
            found.append(BlockMaps(x, x))
        return found

    def feature_maps(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The maps of `map_blocks`, or the last map of each stride from 4 on; finest first."""
        indices = self._map_blocks()
        maps = self.maps(images, indices[-1], train=train)
        return tuple(maps[i].output for i in indices)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Stride of each feature map, in pixels."""
        return tuple(self._stride(i) for i in self._map_blocks())

    @nn.nowrap
    def _map_blocks(self) -> tuple[int, ...]:
        """The indices of the feature maps; the last convolution is that of the largest stride."""
        count = len(self.strides)
        ends = (i - 1 for i in range(1, count) if self.strides[i] > 1 and self._stride(i - 1) > 2)
        return self.map_blocks or (*ends, count)

    @nn.nowrap
    def _stride(self, block: int) -> int:
        """Pixels between neighbours in the map of a block, or of the last convolution."""
        stride = 2
        for factor in self.strides[: block + 1]:
            stride *= factor
        return stride

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b k"]:
        """Logits of normalised images; training with dropout needs the ``dropout`` stream."""
        x = self.maps(images, len(self.strides), train=train)[-1].output.mean(axis=(1, 2))
        x = nn.hard_swish(self.hidden(x)).astype(jnp.float32)
        x = self.head_dropout(x, deterministic=not train)
        return self.head(x) if self.num_classes else x
