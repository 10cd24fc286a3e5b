"""CornerNet.

Paper: "CornerNet: Detecting Objects as Paired Keypoints", arXiv 1808.01244, figures 4 and 7.
References: the authors' code, and mmdet's `CornerNet`, with which outputs agree.

Deviations: images are padded below and on the right with their mean colour, as zeros after the
normalisation; the authors pad around them with black. The heads of all hourglasses are in the
output, also without training: a compiled program that uses only the last one's leaves the others
out.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers import ConvNorm
from zoo.layers.hourglass import StackedHourglass
from zoo.models.backbones import freeze_mappings
from zoo.models.detection.cornernet.decode import CornerDecoding, CornerOutput
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.parts.keypoint_maps import HEAT_BIAS, MapHead, stack_maps
from zoo.ops.corner_pool import Direction, corner_pool
from zoo.outputs import Targets
from zoo.types import Preprocessing


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


class CornerNet(nn.Module):
    """Images to the corners of objects.

    Attributes:
        num_classes: Number of classes.
        hourglass_fields: Fields of `zoo.layers.hourglass.StackedHourglass`.
        pool_dim: Features of the maps in corner pooling.
        head_dim: Features of the first convolution of each output.
        odd_sides: Whether images are padded to one pixel less than a multiple of the stride of the
            coarsest map, as the authors' and mmdet's models expect it; else to a multiple.
        decoding_fields: Fields of `zoo.models.detection.cornernet.decode.CornerDecoding`.
        dtype: Dtype of the computation; parameters and the last layers are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 80
    hourglass_fields: Mapping[str, Any] = FrozenDict()
    pool_dim: int = 128
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
        """Makes the submodules: the trunk, and two heads for each hourglass."""
        self.trunk = self.make_trunk()
        sizes = self.num_classes, self.pool_dim, self.head_dim, self.dtype
        count = self.trunk.num_stacks
        self.top_left = [CornerHead(("top", "left"), *sizes) for _ in range(count)]
        self.bottom_right = [CornerHead(("bottom", "right"), *sizes) for _ in range(count)]

    @nn.nowrap
    def make_trunk(self) -> StackedHourglass:
        """What makes the maps for the heads; raises InputError if a field is out of its range."""
        return StackedHourglass(**self.hourglass_fields, dtype=self.dtype)

    def features(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b rows columns d"], ...]:
        """The map after each hourglass, of padded images."""
        return self.trunk(images, train=train)

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> CornerOutput:
        """The corners of normalised images.

        Args:
            images: A batch, padded below and on the right.
            valid: False for the padding; all pixels are valid if absent.
            targets: Not used.
            train: Whether batch norm uses, and updates, the statistics.
        """
        stride = self.trunk.coarsest_stride
        padded = pad_images(images, valid, stride, less=int(self.odd_sides)).images
        found = [
            [head(x, train=train) for head in heads]
            for x, *heads in zip(
                self.features(padded, train=train), self.top_left, self.bottom_right, strict=True
            )
        ]
        heat, tags, offsets = (
            stack_maps([[corner[i] for corner in corners] for corners in found]) for i in range(3)
        )
        rows, columns = heat.shape[3:5]
        scale = columns / padded.shape[2], rows / padded.shape[1]
        decoding = CornerDecoding(**self.decoding_fields)
        return CornerOutput(heat, tags[..., 0], offsets, scale, decoding)
