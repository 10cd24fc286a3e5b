"""The keypoint head of Keypoint R-CNN (arXiv 1703.06870, section 5)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.deconv import Deconv
from zoo.models.detection.parts.pooling import RoiPooling
from zoo.models.detection.parts.region_convs import RegionConvs


class KeypointHead(nn.Module):
    """Convolutions, then a heat map for each joint with four times the resolution.

    Attributes:
        num_keypoints: Joints.
        conv_dims: Features of the convolutions.
        dtype: Dtype of the computation; parameters and the last layer are float32.
    """

    num_keypoints: int = 17
    conv_dims: tuple[int, ...] = (512,) * 8
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "n p p c"], valid: Bool[Array, " n"], *, train: bool = False
    ) -> Float[Array, "n s s j"]:
        """The heat maps' logits; see `RegionConvs` for the arguments."""
        x = RegionConvs(self.conv_dims, dtype=self.dtype, name="convs")(x, valid, train=train)
        x = Deconv(self.num_keypoints, size=4, name="deconv")(x.astype(jnp.float32))
        n, rows, columns, joints = x.shape
        return jax.image.resize(x, (n, 2 * rows, 2 * columns, joints), "bilinear")


class KeypointBranch(nn.Module):
    """Pooling and head: where the joints are in each region.

    Attributes:
        num_keypoints: As in `KeypointHead`.
        pooling: How regions are pooled.
        conv_dims: As in `KeypointHead`.
        dtype: As in `KeypointHead`.
    """

    num_keypoints: int = 17
    pooling: RoiPooling = RoiPooling(size=14)
    conv_dims: tuple[int, ...] = (512,) * 8
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
    ) -> Float[Array, "b r s s j"]:
        """Logits of the heat maps; see `RoiPooling` for the arguments."""
        pooled = self.pooling(maps, strides, boxes, valid)
        b, r, *shape = pooled.shape
        head = KeypointHead(self.num_keypoints, self.conv_dims, self.dtype, name="head")
        logits = head(pooled.reshape(b * r, *shape), valid.reshape(-1), train=train)
        return logits.reshape(b, r, *logits.shape[1:])
