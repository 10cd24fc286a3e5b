"""The mask head of Mask R-CNN (arXiv 1703.06870, figure 4, right)."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.layers.deconv import Deconv
from zoo.layers.norm import Norm
from zoo.models.detection.parts.pooling import RoiPooling
from zoo.models.detection.parts.region_convs import RegionConvs


class MaskHead(nn.Module):
    """Convolutions, twice the resolution, and a mask for each class.

    Attributes:
        num_classes: Without the background.
        conv_dims: Features of the convolutions.
        dim: Features after the transposed convolution.
        norm: As in `RegionConvs`.
        dtype: Dtype of the computation; parameters and the last layer are float32.
    """

    num_classes: int
    conv_dims: tuple[int, ...] = (256, 256, 256, 256)
    dim: int = 256
    norm: Norm | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "n p p c"], valid: Bool[Array, " n"], *, train: bool = False
    ) -> Float[Array, "n s s k"]:
        """The masks' logits, with twice the rows and columns; `RegionConvs` has the arguments."""
        x = RegionConvs(self.conv_dims, self.norm, self.dtype, name="convs")(x, valid, train=train)
        x = nn.relu(Deconv(self.dim, dtype=self.dtype, name="deconv")(x))
        init = nn.initializers.normal(0.001)
        return nn.Dense(self.num_classes, kernel_init=init, name="logits")(x.astype(jnp.float32))


class MaskBranch(nn.Module):
    """Pooling and head: the mask of one class in each region.

    Attributes:
        num_classes: As in `MaskHead`.
        pooling: How regions are pooled.
        conv_dims: As in `MaskHead`.
        dim: As in `MaskHead`.
        norm: As in `MaskHead`.
        dtype: As in `MaskHead`.
    """

    num_classes: int
    pooling: RoiPooling = RoiPooling(size=14)
    conv_dims: tuple[int, ...] = (256, 256, 256, 256)
    dim: int = 256
    norm: Norm | None = None
    dtype: DTypeLike = jnp.float32

    def __call__(
        self,
        maps: Sequence[Float[Array, "b _ _ c"]],
        strides: Sequence[int],
        boxes: Float[Array, "b r 4"],
        valid: Bool[Array, "b r"],
        labels: Int[Array, "b r"],
        stem: Float[Array, "b _ _ d"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b r s s"]:
        """Logits of the masks; see `RoiPooling` for the other arguments.

        Args:
            maps: The pyramid.
            strides: Of the maps that are pooled from.
            boxes: The regions.
            valid: False for filling, whose masks mean nothing.
            labels: The class of each region; where it is not valid, any number.
            stem: A map of stride 2 that the head gets, too.
            train: Whether batch norm is in training.
        """
        pooled = self.pooling(maps, strides, boxes, valid)
        if stem is not None:
            detail = self.pooling((stem,), (2,), boxes, valid)
            pooled = jnp.concatenate([pooled, detail.astype(pooled.dtype)], axis=-1)
        return self.of_pooled(pooled, valid, labels, train=train)

    @nn.compact
    def of_pooled(
        self,
        pooled: Float[Array, "b r p p c"],
        valid: Bool[Array, "b r"],
        labels: Int[Array, "b r"],
        *,
        train: bool = False,
    ) -> Float[Array, "b r s s"]:
        """As `__call__`, for the features of the regions."""
        b, r, *shape = pooled.shape
        head = MaskHead(
            self.num_classes, self.conv_dims, self.dim, self.norm, self.dtype, name="head"
        )
        logits = head(pooled.reshape(b * r, *shape), valid.reshape(-1), train=train)
        return of_classes(logits.reshape(b, r, *logits.shape[1:]), labels)


def of_classes(
    logits: Float[Array, "b r s s k"], labels: Int[Array, "b r"]
) -> Float[Array, "b r s s"]:
    """The masks of the regions' classes; a label that is no class gets any."""
    column = jnp.clip(labels, 0, logits.shape[-1] - 1)[..., None, None, None]
    return jnp.take_along_axis(logits, column, axis=-1)[..., 0]
