"""EfficientNet and EfficientNet-Lite.

Paper: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv 1905.11946,
table 1 and section 4; Lite: TensorFlow's ``efficientnet/lite``, without squeeze-and-excitation and
with ReLU6. References: timm's and torchvision's `EfficientNet`, and efficientnet_pytorch, with
which outputs agree.

Deviations: running statistics move by a tenth a step, as timm's; TensorFlow's move by a hundredth.
The running variance is the biased one. The rate of drop path rises to its value in the last block;
timm's is lower by one step. The head is initialised with zeros.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers import Norm, Padding, conv_layer
from zoo.models.classification.parts.inverted_residual import (
    ACTIVATIONS,
    Activation,
    InvertedResidual,
    block_norm,
)
from zoo.types import Preprocessing, check_choice


class EfficientNet(nn.Module):
    """Images to logits.

    The fields with one number for each stage are the columns of the paper's table.

    Attributes:
        num_classes: Classes of the head; 0 gives the head's input instead of logits.
        stem_dim: Features of the first convolution, whose stride is 2.
        num_blocks: Of the stages.
        stage_dims: Features of the stages' outputs.
        kernel_sizes: Of the blocks' depthwise convolutions.
        strides: Of the first block of each stage.
        expansions: Ratio of a block's features inside to those of its input; with 1 the block has
            no first convolution.
        last_dim: Features of the last convolution, before the pooling.
        squeeze: Whether blocks have squeeze-and-excitation, with a quarter of the features of the
            block's input; not in Lite.
        activation: ``silu``; ``relu6`` in Lite.
        padding: Of convolutions: ``symmetric``; ``same`` for weights that TensorFlow trained, whose
            names in timm begin with ``tf_``. See `zoo.layers.conv_layer`.
        norm: ``batch`` updates ``batch_stats`` in training; ``frozen`` uses the same variables as
            constants; ``group`` has 8 groups and no statistics.
        norm_epsilon: Added to the variance in norms; 1e-3 for weights that TensorFlow trained.
        dropout: Dropout rate before the head.
        drop_path: Rate of drop path in the last block, rising linearly from 0 in the first.
        dtype: Dtype of the computation; parameters and the head are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 1000
    stem_dim: int = 32
    num_blocks: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    stage_dims: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    kernel_sizes: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    last_dim: int = 1280
    squeeze: bool = True
    activation: Activation = "silu"
    padding: Padding = "symmetric"
    norm: Norm = "batch"
    norm_epsilon: float = 1e-5
    dropout: float = 0.0
    drop_path: float = 0.0
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def setup(self) -> None:
        """Checks the fields and makes the head; `feature_maps` makes the blocks."""
        check_choice("norm", self.norm, Norm)
        check_choice("activation", self.activation, Activation)
        check_choice("padding", self.padding, Padding)
        columns = (
            self.num_blocks,
            self.stage_dims,
            self.kernel_sizes,
            self.strides,
            self.expansions,
        )
        if len(set(map(len, columns))) != 1:
            raise ValueError(
                "num_blocks, stage_dims, kernel_sizes, strides and expansions must have a number"
                f" for each stage; they have {', '.join(str(len(column)) for column in columns)}"
            )
        self.head_dropout = nn.Dropout(self.dropout)
        if self.num_classes:
            self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)

    @nn.compact
    def feature_maps(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The last map of each stride from 4 on, finest first, without the last convolution."""
        norm = block_norm(self, train=train)
        options = {"padding": self.padding, "dtype": self.dtype}
        x = conv_layer(self.stem_dim, 3, 2, name="stem_conv", **options)(images.astype(self.dtype))
        x = ACTIVATIONS[self.activation](norm(name="stem_norm")(x))
        maps, done, count = [], 0, sum(self.num_blocks)
        for i, depth in enumerate(self.num_blocks):
            for j in range(depth):
                dim = x.shape[-1]
                block = InvertedResidual(
                    dim * self.expansions[i],
                    self.stage_dims[i],
                    self.kernel_sizes[i],
                    1 if j else self.strides[i],
                    squeeze_dim=max(dim // 4, 1) * self.squeeze,
                    activation=self.activation,
                    padding=self.padding,
                    norm=self.norm,
                    norm_epsilon=self.norm_epsilon,
                    drop_path=self.drop_path * done / max(count - 1, 1),
                    dtype=self.dtype,
                    name=f"stages_{i}_{j}",
                )
                x = block(x, train=train).output
                done += 1
            maps.append(x)
        return tuple(maps[i] for i in self._map_stages())

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Stride of each feature map, in pixels."""
        return tuple(self._stride(i) for i in self._map_stages())

    @nn.nowrap
    def _map_stages(self) -> list[int]:
        """The last stage of each stride."""
        last = len(self.strides) - 1
        ends = [i for i in range(last) if self.strides[i + 1] > 1 and self._stride(i) > 2]
        return [*ends, last]

    @nn.nowrap
    def _stride(self, stage: int) -> int:
        """Pixels between neighbours in the map of a stage."""
        stride = 2
        for factor in self.strides[: stage + 1]:
            stride *= factor
        return stride

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b k"]:
        """Logits of normalised images; training with dropout needs the ``dropout`` stream."""
        x = self.feature_maps(images, train=train)[-1]
        x = conv_layer(self.last_dim, 1, dtype=self.dtype, name="last_conv")(x)
        x = block_norm(self, train=train)(name="last_norm")(x)
        x = ACTIVATIONS[self.activation](x).mean(axis=(1, 2)).astype(jnp.float32)
        x = self.head_dropout(x, deterministic=not train)
        return self.head(x) if self.num_classes else x
