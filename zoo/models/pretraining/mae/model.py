"""Masked autoencoder: a ViT that learns without labels, by predicting patches that are hidden.

Paper: "Masked Autoencoders Are Scalable Vision Learners", arXiv 2111.06377. Reference:
facebookresearch/mae, with which outputs agree.

Deviations: images may have any sides that are multiples of the patch size, and positions are
interpolated for them; the encoder is initialised as the zoo's ViT (patch embedding LeCun-normal,
class token 1e-6), where the reference uses Xavier-uniform and 0.02.
"""

from functools import partial
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers import EncoderBlock, fixed, resize_positions, run_layers, sincos_2d
from zoo.models.classification.vit.model import ViT
from zoo.ops.masks import random_visible, visible_indices
from zoo.ops.patches import grid_size
from zoo.types import Preprocessing


@no_type_check  # JAX rebuilds this pytree with non-array leaves: skip type checks
class MaeOutput(struct.PyTreeNode):
    """The output of a masked autoencoder for a batch.

    Attributes:
        patches: Predicted pixels of every patch, in the order of `zoo.ops.patches.patchify`. They
            belong to normalised images, or to patches that are normalised one by one, depending on
            the training. Only the predictions of hidden patches are trained.
        visible: True for the patches that the encoder saw.
    """

    patches: Float[Array, "b n ppc"]
    visible: Bool[Array, "b n"]


class Decoder(nn.Module):
    """Tokens of the visible patches to pixels of all patches (arXiv 2111.06377, figure 1).

    Attributes:
        hidden_dim: Features of a token.
        num_layers: Blocks.
        num_heads: Heads of attention.
        mlp_dim: Hidden features of the blocks' MLP.
        patch_values: Number of values in a patch, p * p * c.
        grid: Rows and columns of the patches that the positions are made for.
        norm_epsilon: Added to the variance in norms.
        scan_layers: Whether the blocks are compiled as one.
        remat: Whether blocks are computed again in the backward pass.
        dtype: Dtype of the computation; parameters and the head are float32.
    """

    hidden_dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    patch_values: int
    grid: tuple[int, int]
    norm_epsilon: float = 1e-6
    scan_layers: bool = False
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        visible: Bool[Array, "b n"],
        grid: tuple[int, int],
        *,
        train: bool = False,
    ) -> Float[Array, "b n ppc"]:
        """Pixels of all patches of a grid; the first token of `x` is the class token."""
        dense = partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform())
        x = dense(self.hidden_dim, dtype=self.dtype, name="embed")(x)
        token = self.param("mask_token", nn.initializers.normal(0.02), (self.hidden_dim,))

        d = self.hidden_dim
        positions = fixed(self, "pos_embed", lambda: sincos_2d(*self.grid, d))
        positions = resize_positions(positions, grid).reshape(-1, d).astype(x.dtype)
        class_position = fixed(self, "cls_pos_embed", lambda: jnp.zeros(d)).astype(x.dtype)

        class_token, patches = x[:, :1] + class_position, x[:, 1:]
        place = jnp.maximum(jnp.cumsum(visible, axis=1) - 1, 0)  # index among the visible ones
        patches = jnp.take_along_axis(patches, place[:, :, None], axis=1)  # b n d
        patches = jnp.where(visible[:, :, None], patches, token.astype(x.dtype))
        x = jnp.concatenate([class_token, patches + positions], axis=1)

        block = partial(
            EncoderBlock,
            self.num_heads,
            self.mlp_dim,
            norm_epsilon=self.norm_epsilon,
            dtype=self.dtype,
        )
        if self.scan_layers:
            blocks = block(name="blocks")
        else:
            blocks = [block(name=f"blocks_{i}") for i in range(self.num_layers)]

        def call(
            block: nn.Module, x: Float[Array, "b n d"], rate: Float[Array, ""] | None
        ) -> Float[Array, "b n d"]:
            return block(x, rate, train=train)

        x = run_layers(blocks, call, x, [0.0] * self.num_layers, remat=self.remat and train)
        x = nn.LayerNorm(epsilon=self.norm_epsilon, dtype=self.dtype, name="norm")(x[:, 1:])
        return dense(self.patch_values, name="head")(x)


class MAE(nn.Module):
    """Images to a reconstruction of their hidden patches.

    The encoder's parameters, ``params/encoder``, are those of a ViT with a class token, and its
    positions, ``fixed/encoder``, are not trained. `zoo.load` can load both into any ``vit_*`` of
    that size, where the positions become learned ones.

    Attributes:
        image_size: Side, or height and width, in pixels that the positions are for.
        patch_size: Side of a patch in pixels.
        hidden_dim: Features of an encoder's token.
        num_layers: Encoder blocks.
        num_heads: Heads of attention of the encoder.
        mlp_dim: Hidden features of the MLP of the encoder's blocks.
        decoder_hidden_dim: Features of a decoder's token.
        decoder_num_layers: Decoder blocks.
        decoder_num_heads: Heads of attention of the decoder.
        decoder_mlp_dim: Hidden features of the MLP of the decoder's blocks.
        mask_ratio: Share of the patches that is hidden; ``int(n * (1 - mask_ratio))`` are visible.
        norm_epsilon: Added to the variance in norms; Hugging Face's models have 1e-12.
        scan_layers: Whether the encoder's blocks are compiled as one, and the decoder's; their
            parameters are then ``blocks`` with a leading axis, instead of ``blocks_0``, ...
        remat: Whether blocks are computed again in the backward pass, which saves memory.
        dtype: Dtype of the computation; parameters and the reconstruction are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
    """

    image_size: int | tuple[int, int] = 224
    patch_size: int = 16
    hidden_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    decoder_hidden_dim: int = 512
    decoder_num_layers: int = 8
    decoder_num_heads: int = 16
    decoder_mlp_dim: int = 2048
    mask_ratio: float = 0.75
    norm_epsilon: float = 1e-6
    scan_layers: bool = False
    remat: bool = False
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None

    def setup(self) -> None:
        """Makes the submodules."""
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio is {self.mask_ratio}, but must be in 0..1 and below 1")
        stack = {
            "norm_epsilon": self.norm_epsilon,
            "scan_layers": self.scan_layers,
            "remat": self.remat,
            "dtype": self.dtype,
        }
        self.encoder = ViT(
            num_classes=0,
            image_size=self.image_size,
            patch_size=self.patch_size,
            hidden_dim=self.hidden_dim,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            pool="mean",
            positions="fixed",
            **stack,
        )
        self.decoder = Decoder(
            self.decoder_hidden_dim,
            self.decoder_num_layers,
            self.decoder_num_heads,
            self.decoder_mlp_dim,
            patch_values=3 * self.patch_size**2,
            grid=grid_size(self.image_size, self.patch_size),
            **stack,
        )

    def num_visible(self, num_patches: int) -> int:
        """The number of an image's patches that the encoder sees; raises ValueError if it is 0."""
        count = int(num_patches * (1 - self.mask_ratio))
        if not count:
            raise ValueError(f"mask_ratio={self.mask_ratio} hides all {num_patches} patches")
        return count

    def draw_visible(self, batch: Any, num_patches: int) -> Bool[Array, "b n"]:
        """A random mask for each of `batch` images, from the ``mask`` stream.

        `batch` is an integer, or a symbolic dimension of `jax.export`.
        """
        keys = jax.random.split(self.make_rng("mask"), batch)
        count = self.num_visible(num_patches)
        return jax.vmap(lambda key: random_visible(key, num_patches, count))(keys)

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        visible: Bool[Array, "b n"] | None = None,
        *,
        train: bool = False,
    ) -> MaeOutput:
        """Predicts the pixels of all patches.

        Args:
            images: Normalised images.
            visible: True for the patches that the encoder sees, the same number in each row;
                drawn from the ``mask`` stream if absent. Inside ``jax.jit`` the number cannot be
                read from the mask: it must be the model's own, ``int(n * (1 - mask_ratio))``, and
                the result is NaN for a row with another number of visible patches.
            train: Whether the call is part of training; only `remat` depends on it.

        Raises:
            ValueError: If `visible` has a wrong shape, or its rows have unequal numbers of visible
                patches, or no visible patch.
        """
        grid = grid_size(images.shape[1:3], self.patch_size)
        num_patches = grid[0] * grid[1]
        if visible is None:
            visible = self.draw_visible(images.shape[0], num_patches)
            count = self.num_visible(num_patches)
        else:
            if visible.shape != (images.shape[0], num_patches):
                raise ValueError(
                    f"visible is {visible.shape}, but {images.shape[0]} images of {num_patches}"
                    " patches each are given"
                )
            count = self._count(visible)
        x = self.encoder.tokens(images, visible_indices(visible, count), train=train)
        patches = self.decoder(x, visible, grid, train=train)
        right = visible.sum(axis=1, keepdims=True) == count
        return MaeOutput(jnp.where(right[:, :, None], patches, jnp.nan), visible)

    def _count(self, visible: Bool[Array, "b n"]) -> int:
        """The number of visible patches of every row."""
        if isinstance(visible, Tracer):
            return self.num_visible(visible.shape[1])
        counts = np.unique(np.asarray(visible).sum(axis=1))
        if len(counts) > 1 or not counts.all():
            raise ValueError(
                f"visible has rows with {', '.join(map(str, counts))} visible patches, but every"
                " row must have equally many, and at least one"
            )
        return int(counts[0])

    def features(self, images: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
        """The mean of the encoded tokens of whole images, without hidden patches."""
        return self.encoder(images)

    def feature_maps(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b rows columns d"]]:
        """The encoded tokens of whole images as one map, at stride `patch_size`."""
        return self.encoder.feature_maps(images, train=train)

    @property
    def feature_strides(self) -> tuple[int]:
        """Stride of each feature map, in pixels."""
        return (self.patch_size,)
