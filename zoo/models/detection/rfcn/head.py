"""The head of R-FCN (arXiv 1605.06409, figures 1 and 2): maps of votes, pooled by place.

All layers see the whole image; what remains to be done for a region has no weights.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.conv import conv_layer
from zoo.ops.ps_roi_pool import ps_roi_pool

_INIT = nn.initializers.normal(0.01)


class VotingBranch(nn.Module):
    """The last stage of the backbone, maps of votes, and their means in each region.

    A region is divided into ``bins x bins`` parts. For each part there is a map for each class and
    for each delta, and the part's vote is the mean of its own maps in it.

    Attributes:
        num_classes: Without the background.
        stage: Makes the last stage of the backbone, of stride 1.
        dilation: Of its 3 x 3 convolutions.
        dim: Features of the 1 x 1 convolution between the stage and the maps.
        bins: Parts in a row and a column of a region.
        dtype: Dtype of the computation; parameters and the maps are float32.
    """

    num_classes: int
    stage: Callable[..., nn.Module]
    dilation: int = 2
    dim: int = 1024
    bins: int = 7
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        maps: Sequence[Float[Array, "b h w c"]],
        strides: Sequence[int],
        boxes: Float[Array, "b r 4"],
        valid: Bool[Array, "b r"] | None = None,
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "b r classes"], Float[Array, "b r 1 4"]]:
        """Logits, of the background last, and one refinement of the box for all classes.

        Args:
            maps: One map, that before the last stage.
            strides: Pixels of the image in its cell.
            boxes: ``xyxy`` in pixels; no gradient flows to them.
            valid: Not needed: a region takes no time worth saving.
            train: Whether batch norm is in training.
        """
        del valid
        x = self.stage(name="stage")(maps[0], (self.dilation,), train=train)
        options = {"bias": True, "kernel_init": _INIT}
        x = nn.relu(conv_layer(self.dim, 1, dtype=self.dtype, name="reduce", **options)(x))
        x = x.astype(jnp.float32)
        inside = boxes - jnp.array([0, 0, 1, 1], boxes.dtype)  # to the last pixel

        def votes(count: int, name: str) -> Float[Array, "b r d"]:
            layer = conv_layer(count * self.bins**2, 1, dtype=jnp.float32, name=name, **options)
            pooled = ps_roi_pool(layer(x), inside, stride=strides[0], size=self.bins)
            return pooled.mean(axis=(2, 3))

        return votes(self.num_classes + 1, "logits"), votes(4, "deltas")[:, :, None]
