"""U-Net.

Paper: "U-Net: Convolutional Networks for Biomedical Image Segmentation", arXiv 1505.04597,
figure 1. The form on a pretrained backbone is that of segmentation_models_pytorch's `Unet`, whose
weights it loads.

Deviations: dropout at the end of the contracting path, which the authors' release has at 0.5, is
off unless asked for; ``upsampling="bilinear"`` is a 1 x 1 convolution and then the interpolation,
which is the same as the other way round at a quarter of the work. Heads do not start at zero, as
those of the zoo's classifiers do: the classes' columns would long stay alike.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers import norm_layer
from zoo.models.backbones import freeze_fields, make_backbone
from zoo.ops.pool import max_pool
from zoo.ops.resample import (
    center_crop,
    depth_to_space,
    upsample_bilinear,
    upsample_nearest,
)
from zoo.types import Preprocessing, Variant, check_choice

Padding = Literal["valid", "same"]
Upsampling = Literal["transposed", "bilinear"]
Norm = Literal["none", "batch", "group"]

_HE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions, each with a ReLU (figure 1's blue arrows) and perhaps a norm before.

    Attributes:
        dim: Features.
        padding: ``valid`` makes each side 4 shorter.
        norm: A norm replaces the convolutions' bias; ``group`` has at most 32 groups.
        axis_name: Of a mapped axis over which the batch's statistics are taken.
        dtype: Of the computation; parameters are float32.
    """

    dim: int
    padding: Padding = "same"
    norm: Norm = "none"
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b h2 w2 d"]:
        """The next map."""
        for i in (1, 2):
            x = nn.Conv(
                self.dim,
                (3, 3),
                padding=self.padding.upper(),
                use_bias=self.norm == "none",
                kernel_init=_HE,
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            if self.norm != "none":
                norm = partial(norm_layer, num_groups=math.gcd(32, self.dim), train=train)
                x = norm(self.norm, self.axis_name, self.dtype)(name=f"norm{i}")(x)
            x = nn.relu(x)
        return x


class UpConv(nn.Module):
    """Twice the sides, `dim` features (figure 1's green arrows).

    A transposed 2 x 2 convolution of stride 2 gives each value a block of its own: it is a dense
    layer, kernel ``[c, 2 * 2 * d]`` in the order (row, column, feature), and `depth_to_space`.
    """

    dim: int
    upsampling: Upsampling = "transposed"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """The larger map."""
        dense = partial(nn.Dense, kernel_init=_HE, dtype=self.dtype, name="proj")
        if self.upsampling == "bilinear":
            return upsample_bilinear(dense(self.dim)(x))
        bias = self.param("bias", nn.initializers.zeros, (self.dim,))
        return depth_to_space(dense(4 * self.dim, use_bias=False)(x)) + bias.astype(self.dtype)


class UNet(nn.Module):
    """Images to logits of pixels; with valid convolutions to those of the inner pixels alone.

    Attributes:
        num_classes: Classes of the head; 0 gives the last features instead of logits.
        depth: Times that the map is halved.
        base_dim: Features at full size; each halving doubles them.
        padding: ``valid`` is the paper's: `margin` pixels of each side get no output.
        upsampling: By transposed convolution, or bilinear with a 1 x 1 convolution.
        norm: After each convolution; the paper has ``none``.
        dropout: Rate after the last two blocks of the contracting path.
        axis_name: Of a mapped axis (pmap) over which the batch's statistics are taken.
        dtype: Of the computation; parameters, and the head, are float32.
    """

    num_classes: int = 2
    depth: int = 4
    base_dim: int = 64
    padding: Padding = "valid"
    upsampling: Upsampling = "transposed"
    norm: Norm = "none"
    dropout: float = 0.0
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @property
    def multiple(self) -> int:
        """Sides of inputs differ from one another by multiples of this."""
        return 2**self.depth

    @property
    def margin(self) -> int:
        """Pixels at each side of an input that have no output."""
        return 2 * (3 * 2**self.depth - 2) if self.padding == "valid" else 0

    @nn.nowrap
    def input_side(self, outputs: int) -> int:
        """The least side of an input that at least so many pixels of output come from."""
        rest = 4 * (self.multiple - 1) if self.padding == "valid" else 0
        return -(-(outputs + 2 * self.margin - rest) // self.multiple) * self.multiple + rest

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b h2 w2 k"]:
        """Logits of normalised images; training with dropout needs the ``dropout`` stream.

        Raises:
            ValueError: If a side of the images is none of `input_side`'s.
        """
        check_choice("padding", self.padding, Padding)
        check_choice("upsampling", self.upsampling, Upsampling)
        check_choice("norm", self.norm, Norm)
        _check_sides(self, images)
        dims = [self.base_dim * 2**i for i in range(self.depth + 1)]
        block = partial(
            ConvBlock,
            padding=self.padding,
            norm=self.norm,
            axis_name=self.axis_name,
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
        head = nn.Dense(self.num_classes, kernel_init=_HE, name="head")
        return head(x.astype(jnp.float32))


class BackboneUNet(nn.Module):
    """Images to logits of pixels: the expanding path on the feature maps of a backbone.

    From the coarsest map on, each step doubles the sides, puts the backbone's map of that size
    beside, if there is one, and convolves; a ResNet's has all but the full size. In
    segmentation_models_pytorch's arrangement.

    Attributes:
        num_classes: Classes of the head; 0 gives the last features instead of logits.
        backbone: Name of a registered ResNet or ViT.
        backbone_fields: Fields of the backbone other than that name's.
        decoder_dims: Features of the steps, ending at full size; as many are used as the
            backbone's largest stride has halvings.
        axis_name: Of a mapped axis (pmap) over which the batch's statistics are taken.
        dtype: Of the computation; parameters, and the head, are float32.
    """

    num_classes: int = 2
    backbone: str = "resnet34"
    backbone_fields: Mapping[str, Any] = FrozenDict()
    decoder_dims: tuple[int, ...] = (256, 128, 64, 32, 16)
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    margin = 0  # every pixel has an output

    def __post_init__(self) -> None:
        """Makes the backbone's fields hashable, as those of a module have to be."""
        object.__setattr__(self, "backbone_fields", freeze_fields(self.backbone_fields))
        super().__post_init__()

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The backbone, without its head.

        Raises:
            InputError: If there is no such backbone, or it has no such field.
        """
        # Of no parent: it is also made to be asked, and setup takes it in.
        fields = {**self.backbone_fields, "parent": None}
        body = make_backbone(self.backbone, fields, self.dtype)
        return body.clone(axis_name=self.axis_name) if hasattr(body, "axis_name") else body

    @property
    def multiple(self) -> int:
        """Sides of inputs are multiples of this."""
        return self.make_body().feature_strides[-1]

    @nn.nowrap
    def input_side(self, outputs: int) -> int:
        """The least side of an input that at least so many pixels of output come from."""
        return -(-outputs // self.multiple) * self.multiple

    def setup(self) -> None:
        """Makes the submodules."""
        self.body = self.make_body()
        block = partial(ConvBlock, norm="batch", axis_name=self.axis_name, dtype=self.dtype)
        steps = int(math.log2(self.multiple))
        self.decoder = [block(dim) for dim in self.decoder_dims[-steps:]]
        if self.num_classes:
            init = nn.initializers.xavier_uniform()
            self.head = nn.Conv(self.num_classes, (3, 3), padding=1, kernel_init=init)

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b h w k"]:
        """Logits of normalised images.

        Raises:
            ValueError: If a side of the images is not a multiple of `multiple`.
        """
        _check_sides(self, images)
        maps = getattr(self.body, "pyramid", self.body.feature_maps)(images, train=train)
        by_height = {map_.shape[1]: map_ for map_ in maps}
        x = maps[-1]
        for block in self.decoder:
            x = upsample_nearest(x)
            if x.shape[1] in by_height:
                x = jnp.concatenate([x, by_height[x.shape[1]]], axis=-1)
            x = block(x, train=train)
        return self.head(x.astype(jnp.float32)) if self.num_classes else x


def _check_sides(model: UNet | BackboneUNet, images: Array) -> None:
    for side in images.shape[1:3]:
        if (above := model.input_side(side - 2 * model.margin)) != side or side <= 2 * model.margin:
            least = model.input_side(1)
            below = max(above - model.multiple, least)
            raise ValueError(
                f"an image of {images.shape[1]} x {images.shape[2]} px: sides of this U-Net are"
                f" {least} and multiples of {model.multiple} more, such as"
                f" {below} and {max(above, least + model.multiple)}"
            )


def _variant(build: partial, image_size: int) -> Variant:
    return Variant(build, Preprocessing((image_size, image_size), crop_fraction=1.0))


_same = partial(UNet, padding="same", norm="batch")
_nano_dims = (64, 32, 32, 16, 16)

VARIANTS = {
    "unet": _variant(partial(UNet), 572),
    # Not the paper's: what most of the reimplementations have.
    "unet_same": _variant(_same, 512),
    # For tests, demos and small images.
    "unet_nano": _variant(partial(_same, depth=2, base_dim=32), 64),
    "unet_resnet_nano": _variant(
        partial(BackboneUNet, backbone="resnet_nano", decoder_dims=_nano_dims), 64
    ),
    "unet_resnet34": _variant(partial(BackboneUNet, backbone="resnet34"), 512),
    "unet_resnet50": _variant(partial(BackboneUNet, backbone="resnet50"), 512),
}
