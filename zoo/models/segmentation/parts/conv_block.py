"""Pairs of convolutions, and a check of the sides of images that a U-Net accepts."""

import math
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers import norm_layer

Padding = Literal["valid", "same"]
Norm = Literal["none", "batch", "group"]

HE_INIT = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions, each followed by a norm, if any, and a ReLU (blue in figure 1).

    Attributes:
        dim: Features.
        padding: ``valid`` makes each side 4 shorter.
        norm: Kind of norm, which replaces the convolutions' bias; ``group`` has at most 32 groups.
        dtype: Dtype of the computation; parameters are float32.
    """

    dim: int
    padding: Padding = "same"
    norm: Norm = "none"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b h2 w2 d"]:
        """The next map."""
        for i in (1, 2):
            x = nn.Conv(
                self.dim,
                (3, 3),
                padding=self.padding.upper(),
                use_bias=self.norm == "none",
                kernel_init=HE_INIT,
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            if self.norm != "none":
                norm = partial(norm_layer, num_groups=math.gcd(32, self.dim), train=train)
                x = norm(self.norm, self.dtype)(name=f"norm{i}")(x)
            x = nn.relu(x)
        return x


def check_sides(model: Any, images: Float[Array, "b h w c"]) -> None:
    """Raises ValueError, which lists accepted sides nearby, if the model does not accept a side."""
    for side in images.shape[1:3]:
        if (above := model.input_side(side - 2 * model.margin)) != side or side <= 2 * model.margin:
            least = model.input_side(1)
            below = max(above - model.multiple, least)
            raise ValueError(
                f"an image of {images.shape[1]} x {images.shape[2]} px: sides of this U-Net are"
                f" {least} and multiples of {model.multiple} more, such as"
                f" {below} and {max(above, least + model.multiple)}"
            )
