"""Heads of two-stage detectors that classify regions and refine their boxes.

Two layers: FPN, arXiv 1612.03144, section 4.2; four convolutions and a layer: arXiv 2111.11429.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.conv import conv_layer
from zoo.layers.initializers import TORCH_LINEAR_INIT
from zoo.layers.norm import Norm, norm_layer
from zoo.models.detection.parts.pooling import RoiPooling
from zoo.types import InputError


class BoxHead(nn.Module):
    """3 x 3 convolutions, then dense layers, each with a ReLU.

    Attributes:
        conv_dims: Features of the convolutions.
        dense_dims: Features of the dense layers.
        norm: Norm after each convolution, which then has no bias; None for none.
        dtype: Dtype of the computation; parameters are float32.
    """

    conv_dims: tuple[int, ...] = ()
    dense_dims: tuple[int, ...] = (1024, 1024)
    norm: Norm | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b r p p c"], *, train: bool = False
    ) -> Float[Array, "b r d"]:
        """The features of each region; in training, batch norm counts filling as well."""
        b, r, *shape = x.shape
        x = x.astype(self.dtype).reshape(b * r, *shape)
        for i, dim in enumerate(self.conv_dims):
            x = conv_layer(dim, 3, bias=not self.norm, dtype=self.dtype, name=f"conv_{i}")(x)
            if self.norm:
                x = norm_layer(self.norm, self.dtype, train=train)(name=f"norm_{i}")(x)
            x = nn.relu(x)
        x = x.reshape(b, r, -1)
        for i, dim in enumerate(self.dense_dims):
            dense = nn.Dense(
                dim, dtype=self.dtype, kernel_init=TORCH_LINEAR_INIT, name=f"dense_{i}"
            )
            x = nn.relu(dense(x))
        return x


class BoxPredictor(nn.Module):
    """Features of regions to classes and boxes.

    Attributes:
        num_classes: Without the background.
        agnostic: Whether there is one box for all classes, as in Cascade R-CNN.
    """

    num_classes: int
    agnostic: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b r d"]
    ) -> tuple[Float[Array, "b r classes"], Float[Array, "b r k 4"]]:
        """Logits of the classes and, last, of the background; and the deltas, in float32."""
        x = x.astype(jnp.float32)
        init = nn.initializers.normal
        logits = nn.Dense(self.num_classes + 1, kernel_init=init(0.01), name="logits")(x)
        count = 1 if self.agnostic else self.num_classes
        deltas = nn.Dense(4 * count, kernel_init=init(0.001), name="deltas")(x)
        return logits, deltas.reshape(*x.shape[:2], count, 4)


class BoxBranch(nn.Module):
    """Pooling, head and predictor: what a region is, and where exactly.

    Attributes:
        num_classes: Without the background.
        pooling: How regions are pooled.
        conv_dims: As in `BoxHead`.
        dense_dims: As in `BoxHead`.
        norm: As in `BoxHead`.
        agnostic: As in `BoxPredictor`.
        dtype: As in `BoxHead`.
        stage: Makes a network from a pooled map to a smaller one, whose mean is taken; it is used
            instead of the `BoxHead`.
    """

    num_classes: int
    pooling: RoiPooling = RoiPooling()
    conv_dims: tuple[int, ...] = ()
    dense_dims: tuple[int, ...] = (1024, 1024)
    norm: Norm | None = None
    agnostic: bool = False
    dtype: DTypeLike = jnp.float32
    stage: Callable[..., nn.Module] | None = None

    @nn.compact
    def __call__(
        self,
        maps: Sequence[Float[Array, "b _ _ c"]],
        strides: Sequence[int],
        boxes: Float[Array, "b r 4"],
        valid: Bool[Array, "b r"] | None = None,
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "b r classes"], Float[Array, "b r k 4"]]:
        """Logits and deltas of regions; see `RoiPooling` for the arguments."""
        if self.stage is None:
            x = self.pooling(maps, strides, boxes, valid)
            sizes = (self.conv_dims, self.dense_dims, self.norm, self.dtype)
            x = BoxHead(*sizes, name="head")(x, train=train)
        else:
            x = self.stage_maps(maps, strides, boxes, valid, train=train).mean(axis=(2, 3))
        return BoxPredictor(self.num_classes, self.agnostic, name="predictor")(x)

    @nn.compact
    def stage_maps(
        self,
        maps: Sequence[Float[Array, "b _ _ c"]],
        strides: Sequence[int],
        boxes: Float[Array, "b r 4"],
        valid: Bool[Array, "b r"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b r p p d"]:
        """The map of each region that `stage` makes; raises InputError if there is none."""
        if self.stage is None:
            raise InputError("only the head of a detector without a neck has maps of regions")
        x = self.pooling(maps, strides, boxes, valid)
        b, r, *shape = x.shape
        x = self.stage(name="stage")(x.reshape(b * r, *shape), train=train)
        return x.reshape(b, r, *x.shape[1:])
