"""The part of dense detectors before their heads: a backbone and a feature pyramid."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers.norm import Norm
from zoo.layers.pyramid import FPN, Extra
from zoo.models.backbones import make_frozen_backbone


class PyramidTrunk(nn.Module):
    """Images to the maps of a pyramid.

    Attributes:
        backbone: Name of a registered backbone.
        backbone_fields: Fields that replace those of the backbone's name. Batch normalisation is
            ``frozen`` unless `norm` is given here.
        norm_epsilon: Added to the variance in the norms of the backbone; None: as it has it.
        finest_stride: Maps of the backbone with a smaller stride are not used.
        dim: Features of the pyramid's maps.
        norm: Norm in the pyramid; None for none.
        num_extra: As in `zoo.layers.FPN`.
        extra: As in `zoo.layers.FPN`.
        extra_relu: As in `zoo.layers.FPN`.
        dtype: Dtype of the computation; parameters are float32.
    """

    backbone: str
    backbone_fields: Mapping[str, Any] = FrozenDict()
    norm_epsilon: float | None = None
    finest_stride: int = 8
    dim: int = 256
    norm: Norm | None = None
    num_extra: int = 2
    extra: Extra = "output"
    extra_relu: bool = True
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Makes the submodules."""
        self.body = self.make_body()
        self.pyramid = FPN(
            self.dim, self.norm, self.num_extra, self.extra, self.extra_relu, self.dtype
        )

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The backbone, without its head.

        Raises:
            InputError: If there is no such backbone, or it has no such field.
        """
        fields = self.backbone_fields
        return make_frozen_backbone(self.backbone, fields, self.dtype, self.norm_epsilon)

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ d"], ...]:
        """The pyramid's maps, finest first.

        Args:
            images: Normalised; height and width are multiples of the coarsest stride of the
                backbone.
            train: Whether batch norm uses, and updates, the statistics.
        """
        maps = self.body.feature_maps(images, train=train)
        used = zip(self.body.feature_strides, maps, strict=True)
        maps = tuple(x for stride, x in used if stride >= self.finest_stride)
        return self.pyramid(maps, train=train)


def trunk_strides(body: Any, finest_stride: int, levels: int) -> tuple[int, ...]:
    """Nominal strides of a pyramid's maps: each is twice the one before.

    Args:
        body: The backbone.
        finest_stride: As in `PyramidTrunk`.
        levels: Number of maps, with the extra ones.
    """
    first = min(stride for stride in body.feature_strides if stride >= finest_stride)
    return tuple(first * 2**i for i in range(levels))
