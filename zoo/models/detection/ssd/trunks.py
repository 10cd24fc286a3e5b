"""What is before the heads of SSD: a backbone, and coarser maps from further convolutions.

SSD: arXiv 1512.02325, figure 2; with a MobileNet, SSDLite: arXiv 1801.04381, section 6.2, and arXiv
1905.02244, section 6.3.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers.conv import conv_layer
from zoo.layers.norm import norm_layer
from zoo.models.backbones import make_backbone, make_frozen_backbone
from zoo.ops.pool import max_pool

XAVIER = nn.initializers.xavier_uniform()
LITE_INIT = nn.initializers.normal(0.03)
LITE_EPSILON = 1e-3  # of all norms of SSDLite
_LEAST_NORM = 1e-12


class VggTrunk(nn.Module):
    """A VGG whose last two stages give maps, and further convolutions.

    Attributes:
        backbone: Name of a registered VGG.
        backbone_fields: Fields that replace those of the backbone's name.
        dense_dim: Features of the two convolutions after the last stage, which stand for the dense
            layers of the VGG.
        dilation: Of the first of them.
        extra_dims: Features of the further maps; each comes from a 1 x 1 convolution to half as
            many, and a second one.
        extra_kernels: Height and width of the kernels of the second ones.
        extra_strides: Their strides.
        extra_paddings: Their paddings on every side.
        dtype: Dtype of the computation; parameters are float32.
    """

    backbone: str
    backbone_fields: Mapping[str, Any] = FrozenDict()
    dense_dim: int = 1024
    dilation: int = 6
    extra_dims: tuple[int, ...] = (512, 256, 256, 256)
    extra_kernels: tuple[int, ...] = (3, 3, 3, 3)
    extra_strides: tuple[int, ...] = (2, 2, 1, 1)
    extra_paddings: tuple[int, ...] = (1, 1, 0, 0)
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Makes the backbone; the call makes the convolutions."""
        self.body = self.make_body()

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The VGG; the pooling before its last stage but one counts incomplete windows.

        Raises:
            InputError: If there is no such backbone, or it has no such field.
        """
        body: Any = make_frozen_backbone(self.backbone, self.backbone_fields, self.dtype)
        return body.clone(ceil_stages=(len(body.num_convs) - 3,))

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The maps, finest first; a pixel's features in the first one have a learned length."""
        conv = partial(conv_layer, bias=True, kernel_init=XAVIER, dtype=self.dtype)
        finest, x = self.body.stages(images, train=train)[-2:]
        x = max_pool(x, 3, 1, padding=1)
        x = nn.relu(conv(self.dense_dim, 3, dilation=self.dilation, name="dense_conv_0")(x))
        x = nn.relu(conv(self.dense_dim, 1, name="dense_conv_1")(x))
        maps = [self._scaled(finest), x]
        for i, dim in enumerate(self.extra_dims):
            x = nn.relu(conv(dim // 2, 1, name=f"extra_{i}_conv_0")(x))
            second = nn.Conv(
                dim,
                (self.extra_kernels[i],) * 2,
                self.extra_strides[i],
                self.extra_paddings[i],
                kernel_init=XAVIER,
                dtype=self.dtype,
                name=f"extra_{i}_conv_1",
            )
            x = nn.relu(second(x))
            maps.append(x)
        return tuple(maps)

    def _scaled(self, x: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        """Each pixel's features, scaled to the length 1, times learned numbers (section 3.1)."""
        scale = self.param("scale", nn.initializers.constant(20.0), x.shape[-1:])
        x = x.astype(jnp.float32)
        squares = jnp.square(x).sum(axis=-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.maximum(squares, _LEAST_NORM**2))
        return (x * scale).astype(self.dtype)


class LiteTrunk(nn.Module):
    """A MobileNetV3, and further separable convolutions.

    The first map is that of the last block with a stride, after its first convolution; the second
    is that of the last convolution. All norms are batch norms.

    Attributes:
        backbone: Name of a registered MobileNetV3.
        backbone_fields: Fields that replace those of the backbone's name.
        extra_dims: Features of the further maps.
        dtype: Dtype of the computation; parameters are float32.
    """

    backbone: str
    backbone_fields: Mapping[str, Any] = FrozenDict()
    extra_dims: tuple[int, ...] = (512, 256, 256, 128)
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Makes the backbone; the call makes the convolutions."""
        self.body = self.make_body()

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The MobileNetV3.

        Raises:
            InputError: If there is no such backbone, or it has no such field.
        """
        fields = {"norm_epsilon": LITE_EPSILON, **self.backbone_fields}
        return make_backbone(self.backbone, fields, self.dtype)

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The maps, finest first."""
        count = len(self.body.strides)
        blocks = self.body.maps(images, count, train=train)
        last = max(i for i, stride in enumerate(self.body.strides) if stride > 1)
        x = blocks[-1].output
        maps = [blocks[last].expanded, x]
        layer = partial(lite_layer, dtype=self.dtype, train=train)
        for i, dim in enumerate(self.extra_dims):
            x = layer(x, dim // 2, 1, name=f"extra_{i}_{{}}_0")
            x = layer(x, dim // 2, 3, 2, groups=dim // 2, name=f"extra_{i}_{{}}_1")
            x = layer(x, dim, 1, name=f"extra_{i}_{{}}_2")
            maps.append(x)
        return tuple(maps)


def lite_layer(
    x: Float[Array, "b h w c"],
    dim: int,
    size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    dtype: DTypeLike,
    train: bool,
    name: str,
) -> Float[Array, "b h2 w2 d"]:
    """A convolution, batch norm and ReLU6 of the calling module.

    Args:
        x: The map.
        dim: Features of the output.
        size: Height and width of the kernel.
        stride: Of the convolution.
        groups: Of the convolution.
        dtype: Dtype of the computation; parameters are float32.
        train: Whether batch norm is in training.
        name: Of the submodules, with ``{}`` for ``conv`` and ``norm``.
    """
    conv = conv_layer(
        dim,
        size,
        stride,
        groups=groups,
        kernel_init=LITE_INIT,
        dtype=dtype,
        name=name.format("conv"),
    )
    norm = norm_layer("batch", dtype, train=train, epsilon=LITE_EPSILON)(name=name.format("norm"))
    return nn.relu6(norm(conv(x)))
