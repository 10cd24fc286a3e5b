"""The heads of PANet (arXiv 1803.01534, figure 4 and sections 3.2 and 3.3).

Adaptive feature pooling: a region is pooled from every level, each level has its own first
convolution, and the largest value of each feature goes on.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.layers.deconv import Deconv
from zoo.layers.initializers import TORCH_LINEAR_INIT
from zoo.layers.norm import Norm
from zoo.models.detection.parts.box_head import BoxHead, BoxPredictor
from zoo.models.detection.parts.mask_head import of_classes
from zoo.models.detection.parts.pooling import RoiPooling
from zoo.models.detection.parts.region_convs import RegionConvs


class AdaptivePooling(nn.Module):
    """Regions to features of all levels, and these through convolutions.

    Attributes:
        pooling: How regions are pooled.
        dims: Features of the 3 x 3 convolutions; the first one is another one for each level, and
            its results are fused.
        norm: As in `RegionConvs`.
        dtype: As in `RegionConvs`.
    """

    pooling: RoiPooling
    dims: tuple[int, ...]
    norm: Norm | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        maps: Sequence[Float[Array, "b _ _ c"]],
        strides: Sequence[int],
        boxes: Float[Array, "b r 4"],
        valid: Bool[Array, "b r"],
        *,
        train: bool = False,
    ) -> Float[Array, "br p p d"]:
        """The features of all regions; see `RoiPooling` for the arguments."""
        fused, flat = [], valid.reshape(-1)
        for i, pooled in enumerate(self.pooling.from_all(maps, strides, boxes, valid)):
            first = RegionConvs(self.dims[:1], self.norm, self.dtype, name=f"level_{i}")
            fused.append(first(pooled.reshape(-1, *pooled.shape[2:]), flat, train=train))
        x = jnp.stack(fused).max(axis=0)
        return RegionConvs(self.dims[1:], self.norm, self.dtype, name="convs")(x, flat, train=train)


class AdaptiveBoxBranch(nn.Module):
    """Adaptive pooling, dense layers and predictor: what a region is, and where exactly.

    Attributes:
        num_classes: Without the background.
        pooling: As in `AdaptivePooling`.
        conv_dims: As its `dims`.
        dense_dims: Features of the dense layers.
        norm: As in `AdaptivePooling`.
        dtype: As in `AdaptivePooling`.
    """

    num_classes: int
    pooling: RoiPooling
    conv_dims: tuple[int, ...]
    dense_dims: tuple[int, ...]
    norm: Norm | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        maps: Sequence[Float[Array, "b _ _ c"]],
        strides: Sequence[int],
        boxes: Float[Array, "b r 4"],
        valid: Bool[Array, "b r"],
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "b r classes"], Float[Array, "b r k 4"]]:
        """Logits and deltas of regions; see `RoiPooling` for the arguments."""
        pool = AdaptivePooling(self.pooling, self.conv_dims, self.norm, self.dtype, name="pool")
        x = pool(maps, strides, boxes, valid, train=train)
        x = x.reshape(*boxes.shape[:2], *x.shape[1:])
        x = BoxHead((), self.dense_dims, dtype=self.dtype, name="head")(x)
        return BoxPredictor(self.num_classes, name="predictor")(x)


class FusionMaskHead(nn.Module):
    """A mask for each class by convolutions, plus one for all of them by a dense layer.

    The dense layer sees the whole region at once, and each of its places has its own weights
    (section 3.3).

    Attributes:
        num_classes: Without the background.
        dim: Features of the last convolution of each branch, before the resolution is doubled; the
            dense one has a further convolution to half as many.
        norm: As in `RegionConvs`.
        dtype: Dtype of the computation; parameters and the last layers are float32.
    """

    num_classes: int
    dim: int
    norm: Norm | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "n p p c"], valid: Bool[Array, " n"], *, train: bool = False
    ) -> Float[Array, "n s s k"]:
        """The masks' logits, with twice the rows and columns; `RegionConvs` has the arguments."""
        options = {"norm": self.norm, "dtype": self.dtype}
        n, size = x.shape[:2]

        y = RegionConvs((self.dim,), **options, name="conv")(x, valid, train=train)
        y = nn.relu(Deconv(self.dim, dtype=self.dtype, name="deconv")(y))
        init = nn.initializers.normal(0.001)
        masks = nn.Dense(self.num_classes, kernel_init=init, name="logits")(y.astype(jnp.float32))

        dims = (self.dim, self.dim // 2)
        z = RegionConvs(dims, **options, name="dense_convs")(x, valid, train=train)
        dense = nn.Dense(4 * size**2, kernel_init=TORCH_LINEAR_INIT, name="dense")
        z = nn.relu(dense(z.reshape(n, -1).astype(jnp.float32)))
        return masks + z.reshape(n, 2 * size, 2 * size, 1)


class AdaptiveMaskBranch(nn.Module):
    """Adaptive pooling and fusion: the mask of one class in each region.

    Attributes:
        num_classes: Without the background.
        pooling: As in `AdaptivePooling`.
        conv_dims: Features of the convolutions on the way to the masks: all but the last are those
            of `AdaptivePooling`, the last is that of `FusionMaskHead`.
        norm: As in `AdaptivePooling`.
        dtype: As in `FusionMaskHead`.
    """

    num_classes: int
    pooling: RoiPooling
    conv_dims: tuple[int, ...]
    norm: Norm | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        maps: Sequence[Float[Array, "b _ _ c"]],
        strides: Sequence[int],
        boxes: Float[Array, "b r 4"],
        valid: Bool[Array, "b r"],
        labels: Int[Array, "b r"],
        stem: None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b r s s"]:
        """Logits of the masks; see `MaskBranch` for the arguments. There is never a `stem`."""
        del stem
        *dims, last = self.conv_dims
        pool = AdaptivePooling(self.pooling, tuple(dims), self.norm, self.dtype, name="pool")
        x = pool(maps, strides, boxes, valid, train=train)
        head = FusionMaskHead(self.num_classes, last, self.norm, self.dtype, name="head")
        logits = head(x, valid.reshape(-1), train=train)
        return of_classes(logits.reshape(*boxes.shape[:2], *logits.shape[1:]), labels)
