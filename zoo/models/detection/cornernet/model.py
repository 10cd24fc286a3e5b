"""CornerNet.

Paper: "CornerNet: Detecting Objects as Paired Keypoints", arXiv 1808.01244, figures 4 and 7.
References: the authors' code, and mmdet's `CornerNet`, with which outputs agree.

Deviations: images are padded below and on the right with their mean colour, as zeros after the
normalisation; the authors pad around them with black. The heads of all hourglasses are in the
output, also without training: a compiled program that uses only the last one's leaves the others
out.
"""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers import ConvNorm
from zoo.models.detection.cornernet.decode import CornerDecoding, CornerOutput
from zoo.models.detection.parts.hourglass_detector import HourglassDetector
from zoo.models.detection.parts.keypoint_maps import HEAT_BIAS, MapHead, stack_maps
from zoo.ops.corner_pool import Direction, corner_pool
from zoo.outputs import Targets


class CornerPooling(nn.Module):
    """The corner pooling module: two pools, each of its own convolution, and a residual.

    Attributes:
        directions: Of the pools.
        pool_dim: Features of the maps that are pooled.
        dtype: Dtype of the computation; parameters are float32.
    """

    directions: tuple[Direction, Direction]
    pool_dim: int = 128
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w d"], *, train: bool = False
    ) -> Float[Array, "b h w d"]:
        """A map of the same shape."""
        conv, dim = partial(ConvNorm, dtype=self.dtype), x.shape[-1]
        pooled = [
            corner_pool(conv(self.pool_dim, name=f"pool_{i}")(x, train=train), direction)
            for i, direction in enumerate(self.directions)
        ]
        y = conv(dim, negative_slope=None, name="pooled")(pooled[0] + pooled[1], train=train)
        x = conv(dim, 1, negative_slope=None, name="shortcut")(x, train=train)
        return conv(dim, name="out")(nn.relu(x + y), train=train)


class CornerHead(nn.Module):
    """One corner: a map for each class, its embedding, and its place in the cell.

    Attributes:
        directions: Of the corner pools.
        num_classes: Number of classes.
        pool_dim: See `CornerPooling`.
        hidden_dim: See `MapHead`.
        dtype: Dtype of the computation; parameters and the outputs are float32.
    """

    directions: tuple[Direction, Direction]
    num_classes: int
    pool_dim: int = 128
    hidden_dim: int = 256
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w d"], *, train: bool = False
    ) -> tuple[Float[Array, "b h w k"], Float[Array, "b h w 1"], Float[Array, "b h w 2"]]:
        """Logits of the classes, embeddings, and offsets."""
        pooling = CornerPooling(self.directions, self.pool_dim, self.dtype, name="pooling")
        x = pooling(x, train=train)
        head = partial(MapHead, hidden_dim=self.hidden_dim, dtype=self.dtype)
        return (
            head(self.num_classes, bias=HEAT_BIAS, name="heat")(x),
            head(1, name="tag")(x),
            head(2, name="offset")(x),
        )


class CornerNet(HourglassDetector):
    """Images to the corners of objects.

    Attributes:
        pool_dim: Features of the maps in corner pooling.
    """

    pool_dim: int = 128

    def setup(self) -> None:
        """Makes the submodules: the trunk, and two heads for each hourglass."""
        self.trunk = self.make_trunk()
        sizes = self.num_classes, self.pool_dim, self.head_dim, self.dtype
        count = self.trunk.num_stacks
        self.top_left = [CornerHead(("top", "left"), *sizes) for _ in range(count)]
        self.bottom_right = [CornerHead(("bottom", "right"), *sizes) for _ in range(count)]

    def points(
        self, maps: tuple[Float[Array, "b h w d"], ...], *, train: bool = False
    ) -> tuple[Float[Array, "b s p h w _"], ...]:
        """Logits of the classes, embeddings, and offsets of both corners."""
        found = [
            [head(x, train=train) for head in heads]
            for x, *heads in zip(maps, self.top_left, self.bottom_right, strict=True)
        ]
        return tuple(stack_maps([[corner[i] for corner in two] for two in found]) for i in range(3))

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> CornerOutput:
        """The corners in normalised images; for the arguments see `points_of`."""
        del targets  # only the loss needs them
        (heat, tags, offsets), scale = self.points_of(images, valid, train=train)
        decoding = CornerDecoding(**self.decoding_fields)
        return CornerOutput(heat, tags[..., 0], offsets, scale, decoding)
