"""Patch embedding: a linear map of non-overlapping patches (arXiv 2010.11929, equation 1)."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from zoo.ops.patches import patchify


class PatchEmbed(nn.Module):
    """Embeds patches as tokens; computes the same as a p x p convolution of stride p.

    Written as one dense layer over flattened patches, which is faster than the convolution on
    every backend. The kernel is ``[p * p * c, d]``, its rows in the order (row, column, channel).

    Attributes:
        patch_size: Side of a patch in pixels.
        hidden_dim: Features of a token.
        dtype: Dtype of the computation; parameters are float32.
    """

    patch_size: int
    hidden_dim: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], kept: Int[Array, "b t"] | None = None
    ) -> Float[Array, "b n d"]:
        """Tokens in row-major order of the grid.

        Args:
            images: Images whose sides are multiples of the patch size.
            kept: Indices of the patches to embed, n of them; all if absent.

        Raises:
            ValueError: If an image does not divide into whole patches.
        """
        x = patchify(images, self.patch_size)
        if kept is not None:
            x = jnp.take_along_axis(x, kept[:, :, None], axis=1)
        return nn.Dense(self.hidden_dim, dtype=self.dtype, name="proj")(x)
