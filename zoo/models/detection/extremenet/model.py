"""ExtremeNet.

Paper: "Bottom-up Object Detection by Grouping Extreme and Center Points", arXiv 1901.08043, figure
2. Reference: the authors' code, with which outputs agree. The network is CornerNet's, without
corner pooling and embeddings.

Deviations: those of `zoo.models.detection.cornernet.model`.
"""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.models.detection.extremenet.decode import (
    EXTREMES,
    POINTS,
    ExtremeDecoding,
    ExtremeOutput,
)
from zoo.models.detection.parts.hourglass_detector import HourglassDetector
from zoo.models.detection.parts.keypoint_maps import HEAT_BIAS, MapHead, stack_maps
from zoo.outputs import Targets

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


class ExtremeNet(HourglassDetector):
    """Images to the extreme points of objects."""

    def setup(self) -> None:
        """Makes the submodules: the trunk, and a head for each hourglass."""
        self.trunk = self.make_trunk()
        self.heads = [
            ExtremeHead(self.num_classes, self.head_dim, self.dtype)
            for _ in range(self.trunk.num_stacks)
        ]

    def points(
        self, maps: tuple[Float[Array, "b h w d"], ...], *, train: bool = False
    ) -> tuple[Float[Array, "b s p h w _"], ...]:
        """Logits of the classes for the five points, and offsets of the four extreme points."""
        del train
        found = [head(x) for head, x in zip(self.heads, maps, strict=True)]
        return tuple(stack_maps(kinds) for kinds in zip(*found, strict=True))

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> ExtremeOutput:
        """The extreme points in normalised images; for the arguments see `points_of`."""
        del targets  # only the loss needs them
        (heat, offsets), scale = self.points_of(images, valid, train=train)
        return ExtremeOutput(heat, offsets, scale, ExtremeDecoding(**self.decoding_fields))
