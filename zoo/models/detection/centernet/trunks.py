"""What is before the heads of CenterNet: a backbone and what enlarges its maps, or hourglasses.

CenterNet, arXiv 1904.07850, section 5 and figure 6; the authors' ``resnet_dcn.py`` and
``pose_dla_dcn.py``, and mmdet's ``CTResNetNeck``. Every trunk is called with images and gives its
maps, one for each stack that has heads of its own, the last one last; `stride` is their stride, and
`divisor` the number that height and width of images must be a multiple of.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers.conv import conv_layer
from zoo.layers.deconv import Deconv, Upsample, bilinear
from zoo.layers.deformable import DeformableConv
from zoo.layers.hourglass import StackedHourglass
from zoo.layers.norm import Norm, norm_layer
from zoo.models.backbones import make_backbone

_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
_Maps = tuple[Float[Array, "b _ _ _"], ...]


def _first_bilinear(
    key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> Float[Array, "size size c d"]:
    """The authors' start of a deconvolution: its first output interpolates the sum of all inputs.

    The other weights are drawn as torch does it.
    """
    weights = _UNIFORM(key, shape, dtype)
    line = bilinear(key, (*shape[:2], 1, shape[2]), dtype)
    return weights.at[..., 0].set(line[:, :, 0])


class ConvBlock(nn.Module):
    """A 3 x 3 convolution, a norm and a ReLU.

    Attributes:
        dim: Features of the output.
        deformable: Whether the convolution is a deformable one.
        bias: Whether it has a bias although a norm follows, as in the authors' code.
        norm: Kind of norm.
        dtype: Dtype of the computation; parameters are float32.
    """

    dim: int
    deformable: bool = True
    bias: bool = True
    norm: Norm = "batch"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w d"]:
        """The next map."""
        if self.deformable:
            conv = DeformableConv(self.dim, bias=self.bias, dtype=self.dtype, name="conv")
        else:
            conv = conv_layer(self.dim, 3, bias=self.bias, dtype=self.dtype, name="conv")
        return nn.relu(norm_layer(self.norm, self.dtype, train=train)(name="norm")(conv(x)))


class DeconvTrunk(nn.Module):
    """The last map of a backbone, enlarged by deconvolutions.

    Attributes:
        backbone: Name of a registered backbone.
        backbone_fields: Fields that replace those of the backbone's name.
        dims: Features of each step, which doubles height and width.
        deformable: Whether the convolution before each deconvolution is a deformable one.
        bias: As in `ConvBlock`.
        norm: Kind of norm after each convolution; the backbone has its own.
        dtype: Dtype of the computation; parameters are float32.
    """

    backbone: str
    backbone_fields: Mapping[str, Any] = FrozenDict()
    dims: tuple[int, ...] = (256, 128, 64)
    deformable: bool = True
    bias: bool = True
    norm: Norm = "batch"
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Makes the backbone; the call makes the other layers."""
        self.body = self.make_body()

    @nn.nowrap
    def make_body(self) -> Any:
        """The backbone; raises InputError if there is none, or it has no such field."""
        return make_backbone(self.backbone, self.backbone_fields, self.dtype)

    @property
    def divisor(self) -> int:
        """Height and width of images are multiples of it."""
        return self.make_body().feature_strides[-1]

    @property
    def stride(self) -> int:
        """Pixels of the image from one cell to the next."""
        return self.divisor // 2 ** len(self.dims)

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], *, train: bool = False) -> _Maps:
        """The one map."""
        x = self.body.feature_maps(images, train=train)[-1]
        norm = norm_layer(self.norm, self.dtype, train=train)
        for i, dim in enumerate(self.dims):
            fields = (dim, self.deformable, self.bias, self.norm, self.dtype)
            x = ConvBlock(*fields, name=f"up_{i}")(x, train=train)
            options = {"bias": False, "dtype": self.dtype, "name": f"up_{i}_deconv"}
            x = Deconv(dim, 4, 2, kernel_init=_first_bilinear, **options)(x)
            x = nn.relu(norm(name=f"up_{i}_norm")(x))
        return (x,)


class Aggregation(nn.Module):
    """Maps of several resolutions, merged one after the other into the finest one.

    The authors' ``IDAUp``: iterative deep aggregation (arXiv 1707.06484, section 3.1).

    Attributes:
        dim: Features of the output.
        factors: How much coarser each map is than the first one.
        deformable: Whether convolutions are deformable.
        bias: As in `ConvBlock`.
        norm: Kind of norm.
        dtype: Dtype of the computation; parameters are float32.
    """

    dim: int
    factors: tuple[int, ...]
    deformable: bool = True
    bias: bool = True
    norm: Norm = "batch"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, maps: _Maps, *, train: bool) -> _Maps:
        """The maps after each step, of the resolution of the first; that one is unchanged."""
        fields = (self.dim, self.deformable, self.bias, self.norm, self.dtype)
        merged = [maps[0]]
        for i, (x, factor) in enumerate(zip(maps[1:], self.factors[1:], strict=True), start=1):
            x = ConvBlock(*fields, name=f"proj_{i}")(x, train=train)
            x = Upsample(factor, self.dtype, name=f"up_{i}")(x) + merged[-1]
            merged.append(ConvBlock(*fields, name=f"node_{i}")(x, train=train))
        return tuple(merged)


class DlaTrunk(nn.Module):
    """A DLA whose maps are aggregated twice: first each with all coarser ones, then these.

    Attributes:
        backbone: Name of a registered DLA.
        backbone_fields: Fields that replace those of the backbone's name.
        first: Level of the finest map that is used; its stride is ``2 ** first``.
        deformable: Whether convolutions are deformable.
        bias: As in `ConvBlock`.
        norm: Kind of norm after each convolution; the backbone has its own.
        dtype: Dtype of the computation; parameters are float32.
    """

    backbone: str
    backbone_fields: Mapping[str, Any] = FrozenDict()
    first: int = 2
    deformable: bool = True
    bias: bool = True
    norm: Norm = "batch"
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Makes the backbone; the call makes the other layers."""
        self.body = self.make_body()

    @nn.nowrap
    def make_body(self) -> Any:
        """The backbone; raises InputError if there is none, or it has no such field."""
        return make_backbone(self.backbone, self.backbone_fields, self.dtype)

    @property
    def divisor(self) -> int:
        """Height and width of images are multiples of it."""
        return self.make_body().feature_strides[-1]

    @property
    def stride(self) -> int:
        """Pixels of the image from one cell to the next."""
        return 2**self.first

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], *, train: bool = False) -> _Maps:
        """The one map."""
        maps = list(self.body.levels(images, train=train)[self.first :])
        options = {"deformable": self.deformable, "bias": self.bias, "norm": self.norm}
        options["dtype"] = self.dtype
        dims, found = [x.shape[-1] for x in maps], [maps[-1]]
        for i in range(len(maps) - 1):
            start = len(maps) - 2 - i
            factors = (1, *(2,) * (i + 1))
            merge = Aggregation(dims[start], factors, name=f"dla_up_{i}", **options)
            maps[start:] = merge(tuple(maps[start:]), train=train)
            found.insert(0, maps[-1])
        factors = tuple(np.power(2, range(len(found) - 1)).tolist())
        merge = Aggregation(dims[0], factors, name="ida_up", **options)
        return (merge(tuple(found[:-1]), train=train)[-1],)


class HourglassTrunk(StackedHourglass):
    """Hourglasses one after the other; by default the authors' two, "Hourglass-104"."""

    @nn.nowrap
    def make_body(self) -> Any:
        """The hourglasses themselves: there is no backbone before them."""
        return self

    @property
    def divisor(self) -> int:
        """Height and width of images are multiples of it."""
        return self.coarsest_stride


TRUNKS: Mapping[str, type[nn.Module]] = FrozenDict(
    {"deconv": DeconvTrunk, "dla": DlaTrunk, "hourglass": HourglassTrunk}
)
