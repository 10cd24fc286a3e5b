"""MLP-Mixer.

Paper: "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601; sizes from its table 1.
References: vision_transformer's `models_mixer.py`, and timm's `mlp_mixer.py` for names.

Deviations: drop path rescales the branches that it keeps; GELU is exact, as in timm; the MLPs are
initialised as in ViT (Xavier-uniform, biases of 1e-6), where the reference uses Flax's defaults.
"""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers import DropPath, Mlp, PatchEmbed, drop_path_rates, run_layers
from zoo.ops.patches import grid_size
from zoo.types import Preprocessing


class MixerBlock(nn.Module):
    """An MLP across tokens, then one across channels, each with a residual (figure 1)."""

    tokens_mlp_dim: int
    channels_mlp_dim: int
    dropout: float = 0.0
    drop_path: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], rate: Float[Array, ""] | None = None, *, train: bool = False
    ) -> Float[Array, "b n d"]:
        """The mixed tokens; training with dropout or drop path needs the ``dropout`` stream.

        Args:
            x: Tokens.
            rate: Used instead of `drop_path`, if given.
            train: Whether dropout and drop path are on.
        """
        norm = partial(nn.LayerNorm, epsilon=1e-6, dtype=self.dtype)
        mlp = partial(Mlp, dropout=self.dropout, dtype=self.dtype)
        drop_path = partial(DropPath(self.drop_path), rate=rate, train=train)

        y = norm(name="norm1")(x)
        y = y.swapaxes(1, 2)  # b d n
        y = mlp(self.tokens_mlp_dim, name="mlp_tokens")(y, train=train)
        y = y.swapaxes(1, 2)  # b n d
        x = x + drop_path(y)

        y = norm(name="norm2")(x)
        y = mlp(self.channels_mlp_dim, name="mlp_channels")(y, train=train)
        return x + drop_path(y)


class MlpMixer(nn.Module):
    """Images to logits. The parameters fit one image size only: tokens are mixed by position.

    Attributes:
        num_classes: Classes of the head; 0 gives the pooled features instead of logits.
        image_size: Side, or height and width, of the images in pixels.
        patch_size: Side of a patch in pixels.
        hidden_dim: Features of a token.
        num_layers: Mixer blocks.
        tokens_mlp_dim: Hidden features of the token-mixing MLP.
        channels_mlp_dim: Hidden features of the channel-mixing MLP.
        dropout: Rate after the MLPs' activation.
        drop_path: Rate of drop path in the last block, rising linearly from 0 in the first.
        head_bias: Initial value of the head's bias; -log(classes) for sigmoid cross-entropy.
        scan_layers: Whether the blocks are compiled as one; their parameters are then ``blocks``
            with a leading axis, instead of ``blocks_0``, ``blocks_1``, ...
        remat: Whether blocks are computed again in the backward pass, which saves memory.
        dtype: Dtype of the computation; parameters and the head are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 1000
    image_size: int | tuple[int, int] = 224
    patch_size: int = 16
    hidden_dim: int = 768
    num_layers: int = 12
    tokens_mlp_dim: int = 384
    channels_mlp_dim: int = 3072
    dropout: float = 0.0
    drop_path: float = 0.0
    head_bias: float = 0.0
    scan_layers: bool = False
    remat: bool = False
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def setup(self) -> None:
        """Makes the submodules."""
        self.patch_embed = PatchEmbed(self.patch_size, self.hidden_dim, dtype=self.dtype)
        block = partial(
            MixerBlock,
            self.tokens_mlp_dim,
            self.channels_mlp_dim,
            self.dropout,
            dtype=self.dtype,
        )
        self.rates = drop_path_rates(self.drop_path, self.num_layers)
        self.blocks = block() if self.scan_layers else [block(drop_path=r) for r in self.rates]
        self.norm = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)
        if self.num_classes:
            bias = nn.initializers.constant(self.head_bias)
            self.head = nn.Dense(
                self.num_classes, kernel_init=nn.initializers.zeros, bias_init=bias
            )

    def tokens(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b n d"]:
        """Mixed and normalised tokens of the patches, in row-major order of the grid."""
        grid = grid_size(self.image_size, self.patch_size)
        if grid_size(images.shape[1:3], self.patch_size) != grid:
            raise ValueError(
                f"this Mixer has image_size={self.image_size}, but the images are"
                f" {images.shape[1]} x {images.shape[2]} px: create it with their image_size"
            )
        x = self.patch_embed(images)

        def call(
            block: nn.Module, x: Float[Array, "b n d"], rate: Float[Array, ""] | None
        ) -> Float[Array, "b n d"]:
            return block(x, rate, train=train)

        return self.norm(run_layers(self.blocks, call, x, self.rates, remat=self.remat and train))

    def feature_maps(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b rows columns d"]]:
        """The tokens as one map, at stride `patch_size`."""
        x = self.tokens(images, train=train)
        rows, columns = grid_size(images.shape[1:3], self.patch_size)
        return (x.reshape(x.shape[0], rows, columns, self.hidden_dim),)

    @property
    def feature_strides(self) -> tuple[int]:
        """Stride of each feature map, in pixels."""
        return (self.patch_size,)

    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b k"]:
        """Logits of normalised images."""
        x = self.tokens(images, train=train).mean(axis=1)
        return self.head(x) if self.num_classes else x
