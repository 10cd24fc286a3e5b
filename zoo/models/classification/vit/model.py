"""Vision Transformer.

Paper: "An Image is Worth 16x16 Words", arXiv 2010.11929; sizes beyond huge from "Scaling Vision
Transformers", arXiv 2106.04560, table 2. Reference: timm's `vision_transformer.py`, with which
names and outputs agree; big_vision's `vit.py` for the plain recipe's mean pooling, fixed sinusoids
and representation layer (arXiv 2205.01580).

Deviations: images may have any sides that are multiples of the patch size, and learned positions
are interpolated for them; the position of the class token is a separate parameter. Dense layers are
initialised as in big_vision (Xavier-uniform, MLP biases of 1e-6, zero head), positions as in timm
(0.02). GELU is exact as in timm; big_vision uses the tanh approximation.
"""

from functools import partial
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from zoo.layers import (
    EncoderBlock,
    PatchEmbed,
    drop_path_rates,
    fixed,
    resize_positions,
    run_layers,
    sincos_2d,
)
from zoo.ops.patches import grid_size
from zoo.types import Preprocessing


class ViT(nn.Module):
    """Images to logits.

    Attributes:
        num_classes: Classes of the head; 0 gives the pooled features instead of logits.
        image_size: Side, or height and width, in pixels that the learned positions are for.
        patch_size: Side of a patch in pixels.
        hidden_dim: Features of a token.
        num_layers: Encoder blocks.
        num_heads: Heads of attention.
        mlp_dim: Hidden features of the blocks' MLP.
        pool: Input of the head: the class ``token`` or the ``mean`` of the patches' tokens.
        class_token: Whether there is a class token.
        norm_after_pool: Whether the last norm comes after the pooling (timm's ``fc_norm``).
        positions: ``learned``; ``fixed``: not trained, in the collection ``fixed``, initially the
            sinusoids of MoCo v3 and MAE; or ``sincos2d``: big_vision's sinusoids, computed for
            every size, without a position for the class token.
        representation_dim: Width of a tanh layer before the head; None for no such layer.
        head_batch_norm: Whether a BatchNorm without scale and bias precedes the head, as in MAE's
            linear probing; the head then starts with a standard deviation of 0.01, not with zeros.
        dropout: Dropout rate after the positions, the MLP's activation and each branch.
        drop_path: Rate of drop path in the last block, rising linearly from 0 in the first.
        norm_epsilon: Added to the variance in norms; Hugging Face's models have 1e-12.
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
    num_heads: int = 12
    mlp_dim: int = 3072
    pool: Literal["token", "mean"] = "token"
    class_token: bool = True
    norm_after_pool: bool = False
    positions: Literal["learned", "fixed", "sincos2d"] = "learned"
    representation_dim: int | None = None
    head_batch_norm: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0
    norm_epsilon: float = 1e-6
    scan_layers: bool = False
    remat: bool = False
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def setup(self) -> None:
        """Makes the submodules."""
        if self.pool == "token" and not self.class_token:
            raise ValueError("pool='token' needs class_token=True; use pool='mean' without one")
        d = self.hidden_dim
        self.patch_embed = PatchEmbed(self.patch_size, d, dtype=self.dtype)
        grid = grid_size(self.image_size, self.patch_size)
        init = nn.initializers.normal(0.02)
        if self.positions == "learned":
            self.pos_embed = self.param("pos_embed", init, (*grid, d))
        elif self.positions == "fixed":
            self.pos_embed = fixed(self, "pos_embed", lambda: sincos_2d(*grid, d))
        if self.class_token:
            self.cls_token = self.param("cls_token", nn.initializers.normal(1e-6), (d,))
            if self.positions == "learned":
                self.cls_pos_embed = self.param("cls_pos_embed", init, (d,))
            elif self.positions == "fixed":
                self.cls_pos_embed = fixed(self, "cls_pos_embed", lambda: jnp.zeros(d))
        self.embed_dropout = nn.Dropout(self.dropout)
        block = partial(
            EncoderBlock,
            self.num_heads,
            self.mlp_dim,
            self.dropout,
            norm_epsilon=self.norm_epsilon,
            dtype=self.dtype,
        )
        self.rates = drop_path_rates(self.drop_path, self.num_layers)
        self.blocks = block() if self.scan_layers else [block(drop_path=r) for r in self.rates]
        self.norm = nn.LayerNorm(epsilon=self.norm_epsilon, dtype=self.dtype)
        if self.representation_dim:
            self.representation = nn.Dense(self.representation_dim, dtype=self.dtype)
        if self.num_classes:
            init = nn.initializers.zeros
            if self.head_batch_norm:  # as in MAE: LARS needs a kernel that is not 0
                self.head_norm = nn.BatchNorm(
                    momentum=0.9, epsilon=1e-6, use_scale=False, use_bias=False
                )
                init = nn.initializers.normal(0.01)
            self.head = nn.Dense(self.num_classes, kernel_init=init)

    def embed(
        self, images: Float[Array, "b h w c"], kept: Int[Array, "b t"] | None = None
    ) -> Float[Array, "b n d"]:
        """Tokens of the patches with their positions; the class token first, if there is one.

        Args:
            images: Normalised images.
            kept: Indices of the patches that are used; all if absent.
        """
        x = self.patch_embed(images, kept)
        grid = grid_size(images.shape[1:3], self.patch_size)
        if self.positions == "sincos2d":
            positions = sincos_2d(*grid, self.hidden_dim, endpoint=True)
        else:
            positions = resize_positions(self.pos_embed, grid)
        positions = positions.reshape(-1, self.hidden_dim).astype(x.dtype)
        x = x + (positions if kept is None else positions[kept])
        if not self.class_token:
            return x
        token = self.cls_token
        if self.positions != "sincos2d":
            token = token + self.cls_pos_embed
        token = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.hidden_dim))
        return jnp.concatenate([token, x], axis=1)

    def encode(self, x: Float[Array, "b n d"], *, train: bool = False) -> Float[Array, "b n d"]:
        """Applies the blocks and, unless it comes after the pooling, the last norm."""
        x = self.embed_dropout(x, deterministic=not train)

        def call(
            block: nn.Module, x: Float[Array, "b n d"], rate: Float[Array, ""] | None
        ) -> Float[Array, "b n d"]:
            return block(x, rate, train=train)

        x = run_layers(self.blocks, call, x, self.rates, remat=self.remat and train)
        return x if self.norm_after_pool else self.norm(x)

    def tokens(
        self,
        images: Float[Array, "b h w c"],
        kept: Int[Array, "b t"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b n d"]:
        """Encoded tokens of all patches, or of the `kept` ones; any class token is first."""
        return self.encode(self.embed(images, kept), train=train)

    def feature_maps(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b rows columns d"]]:
        """The patches' encoded tokens as one map, at stride `patch_size`."""
        x = self.tokens(images, train=train)[:, int(self.class_token) :]
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
        x = self.tokens(images, train=train)
        x = x[:, 0] if self.pool == "token" else x[:, int(self.class_token) :].mean(axis=1)
        if self.norm_after_pool:
            x = self.norm(x)
        if self.representation_dim:
            x = nn.tanh(self.representation(x))
        if not self.num_classes:
            return x
        if self.head_batch_norm:
            x = self.head_norm(x, use_running_average=not train)
        return self.head(x)
