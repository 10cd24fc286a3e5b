"""ExtremeNet.

Paper: "Bottom-up Object Detection by Grouping Extreme and Center Points", arXiv 1901.08043, figure
2. Reference: the authors' code, with which outputs agree. The network is CornerNet's, without
corner pooling and embeddings.

Deviations: those of `zoo.models.detection.cornernet.model`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.hourglass import StackedHourglass
from zoo.models.backbones import freeze_mappings
from zoo.models.detection.extremenet.decode import (
    EXTREMES,
    POINTS,
    ExtremeDecoding,
    ExtremeOutput,
)
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.parts.keypoint_maps import HEAT_BIAS, MapHead, stack_maps
from zoo.outputs import Targets
from zoo.types import Preprocessing

_Maps = list[Float[Array, "b h w _"]]


class ExtremeHead(nn.Module):
    """Maps of the four extreme points and of the centre, and the places of the former in a cell.

    Attributes:
        num_classes: Number of classes.
        hidden_dim: See `MapHead`.
        dtype: Dtype of the computation; parameters and the outputs are float32.
    """

    num_classes: int
    hidden_dim: int = 256
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"]) -> tuple[_Maps, _Maps]:
        """Logits of the classes for each point, and offsets of each extreme point."""
        head = partial(MapHead, hidden_dim=self.hidden_dim, dtype=self.dtype)
        heat = [head(self.num_classes, bias=HEAT_BIAS, name=f"heat_{name}")(x) for name in POINTS]
        return heat, [head(2, name=f"offset_{name}")(x) for name in EXTREMES]


class ExtremeNet(nn.Module):
    """Images to the extreme points of objects.

    Attributes:
        num_classes: Number of classes.
        hourglass_fields: Fields of `zoo.layers.hourglass.StackedHourglass`.
        head_dim: Features of the first convolution of each output.
        odd_sides: Whether images are padded to one pixel less than a multiple of the stride of the
            coarsest map, as the authors' models expect it; else to a multiple.
        decoding_fields: Fields of `zoo.models.detection.extremenet.decode.ExtremeDecoding`.
        dtype: Dtype of the computation; parameters and the last layers are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 80
    hourglass_fields: Mapping[str, Any] = FrozenDict()
    head_dim: int = 256
    odd_sides: bool = True
    decoding_fields: Mapping[str, Any] = FrozenDict()
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Makes the mappings hashable, as a module's fields must be."""
        freeze_mappings(self)
        super().__post_init__()

    def setup(self) -> None:
        """Makes the submodules: the trunk, and a head for each hourglass."""
        self.trunk = self.make_trunk()
        self.heads = [
            ExtremeHead(self.num_classes, self.head_dim, self.dtype)
            for _ in range(self.trunk.num_stacks)
        ]

    @nn.nowrap
    def make_trunk(self) -> StackedHourglass:
        """What makes the maps for the heads; raises InputError if a field is out of its range."""
        return StackedHourglass(**self.hourglass_fields, dtype=self.dtype)

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> ExtremeOutput:
        """The extreme points in normalised images.

        Args:
            images: A batch, padded below and on the right.
            valid: False for the padding; all pixels are valid if absent.
            targets: Not used.
            train: Whether batch norm uses, and updates, the statistics.
        """
        stride = self.trunk.coarsest_stride
        padded = pad_images(images, valid, stride, less=int(self.odd_sides)).images
        maps = self.trunk(padded, train=train)
        found = [head(x) for head, x in zip(self.heads, maps, strict=True)]
        heat, offsets = (stack_maps(kinds) for kinds in zip(*found, strict=True))
        rows, columns = heat.shape[3:5]
        scale = columns / padded.shape[2], rows / padded.shape[1]
        return ExtremeOutput(heat, offsets, scale, ExtremeDecoding(**self.decoding_fields))
