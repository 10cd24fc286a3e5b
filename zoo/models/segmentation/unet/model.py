"""U-Net.

Paper: "U-Net: Convolutional Networks for Biomedical Image Segmentation", arXiv 1505.04597,
figure 1.

Deviations: dropout at the end of the contracting path is off by default (the authors' release has
0.5); ``upsampling="bilinear"`` applies a 1 x 1 convolution and then interpolates, which gives the
same result as the other order with a quarter of the work. The head is not initialised with zeros,
unlike the heads of the zoo's classifiers: the classes' columns would remain similar for long.
"""

from functools import partial
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.models.segmentation.parts.conv_block import (
    HE_INIT,
    ConvBlock,
    Norm,
    Padding,
    check_sides,
)
from zoo.ops.pool import max_pool
from zoo.ops.resample import center_crop, depth_to_space, upsample_bilinear
from zoo.types import Preprocessing, check_choice

Upsampling = Literal["transposed", "bilinear"]


class UpConv(nn.Module):
    """Doubles the sides and returns `dim` features (figure 1's green arrows).

    A transposed 2 x 2 convolution of stride 2 maps each position to its own 2 x 2 block. So it is a
    dense layer, whose kernel ``[c, 2 * 2 * d]`` has outputs in the order (row, column, feature),
    followed by `depth_to_space`.
    """

    dim: int
    upsampling: Upsampling = "transposed"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """The larger map."""
        dense = partial(nn.Dense, kernel_init=HE_INIT, dtype=self.dtype, name="proj")
        if self.upsampling == "bilinear":
            return upsample_bilinear(dense(self.dim)(x))
        bias = self.param("bias", nn.initializers.zeros, (self.dim,))
        return depth_to_space(dense(4 * self.dim, use_bias=False)(x)) + bias.astype(self.dtype)


class UNet(nn.Module):
    """Images to logits of pixels; with valid convolutions only to those of the inner pixels.

    Attributes:
        num_classes: Classes of the head; 0 gives the last features instead of logits.
        depth: Number of times that the sides of the map are halved.
        base_dim: Features at full size; each halving doubles them.
        padding: ``valid`` is the paper's: `margin` pixels of each side get no output.
        upsampling: By transposed convolution, or bilinear with a 1 x 1 convolution.
        norm: Kind of norm after each convolution; the paper has ``none``.
        dropout: Dropout rate after the last two blocks of the contracting path.
        dtype: Dtype of the computation; parameters and the head are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 2
    depth: int = 4
    base_dim: int = 64
    padding: Padding = "valid"
    upsampling: Upsampling = "transposed"
    norm: Norm = "none"
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    @property
    def multiple(self) -> int:
        """The sides that are accepted for inputs differ by multiples of this."""
        return 2**self.depth

    @property
    def margin(self) -> int:
        """Pixels at each side of an input that have no output."""
        return 2 * (3 * 2**self.depth - 2) if self.padding == "valid" else 0

    @nn.nowrap
    def input_side(self, outputs: int) -> int:
        """The smallest side of an input that gives at least `outputs` pixels of output."""
        rest = 4 * (self.multiple - 1) if self.padding == "valid" else 0
        return -(-(outputs + 2 * self.margin - rest) // self.multiple) * self.multiple + rest

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b h2 w2 k"]:
        """Logits of normalised images; training with dropout needs the ``dropout`` stream.

        Raises:
            ValueError: If a side of the images is not accepted: see `input_side`.
        """
        check_choice("padding", self.padding, Padding)
        check_choice("upsampling", self.upsampling, Upsampling)
        check_choice("norm", self.norm, Norm)
        check_sides(self, images)
        dims = [self.base_dim * 2**i for i in range(self.depth + 1)]
        block = partial(
            ConvBlock,
            padding=self.padding,
            norm=self.norm,
            dtype=self.dtype,
        )

        x, skips = images.astype(self.dtype), []
        for i, dim in enumerate(dims):
            x = block(dim, name=f"down_{i}")(x, train=train)
            if i >= self.depth - 1:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            if i < self.depth:
                skips.append(x)
                x = max_pool(x, 2, 2)
        for i in reversed(range(self.depth)):
            x = UpConv(dims[i], self.upsampling, self.dtype, name=f"upsample_{i}")(x)
            x = jnp.concatenate([center_crop(skips[i], x.shape[1:3]), x], axis=-1)
            x = block(dims[i], name=f"up_{i}")(x, train=train)

        if not self.num_classes:
            return x
        head = nn.Dense(self.num_classes, kernel_init=HE_INIT, name="head")
        return head(x.astype(jnp.float32))
