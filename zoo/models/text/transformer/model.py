"""Transformer: sequences of tokens to sequences of tokens.

Paper: "Attention Is All You Need", arXiv 1706.03762. References: tensor2tensor's `transformer.py`,
the authors' own; `torch.nn.Transformer`; Hugging Face's `modeling_marian.py`, for the public
translators of Helsinki-NLP.

Deviations: dropout is applied after the MLP's activation, too, as in `torch.nn.Transformer`;
dense layers have biases and are initialised by Xavier's uniform distribution, as in tensor2tensor;
the norms' epsilon is 1e-5, as in PyTorch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.layers import EncoderBlock, Mlp, MultiHeadAttention, run_layers, sincos_1d

_EPSILON = 1e-5
_ACTIVATIONS = {"relu": nn.relu, "gelu": partial(nn.gelu, approximate=False), "silu": nn.silu}


class DecoderBlock(nn.Module):
    """Attention to earlier tokens, attention to the source, and MLP (figure 1, right).

    Without `memory` it has no second attention and is the block of a decoder-only model.

    Attributes:
        num_heads: Heads of both attentions.
        mlp_dim: Hidden features of the MLP.
        dropout: Dropout rate after the MLP's activation and each branch.
        attention_dropout: Dropout rate on the attention maps.
        activation: Activation of the MLP.
        pre_norm: Whether the norms are before the branches; else after the sums.
        dtype: Dtype of the computation; parameters are float32.
    """

    num_heads: int
    mlp_dim: int
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation: Callable[[Array], Array] = nn.relu
    pre_norm: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        memory: Float[Array, "b s d"] | None = None,
        *,
        mask: Bool[Array, "#b 1 t t"] | None = None,
        memory_mask: Bool[Array, "b 1 1 s"] | None = None,
        position: int | Int[Array, ""] | None = None,
        train: bool = False,
    ) -> Float[Array, "b t d"]:
        """The next tokens; training with dropout needs the ``dropout`` stream.

        Args:
            x: Tokens of the target.
            memory: Encoded tokens of the source.
            mask: True where the token of the row may attend to the token of the column.
            memory_mask: True for the source's tokens that may be attended to.
            position: Position of the first token, if a sequence is decoded in steps: see
                `MultiHeadAttention`.
            train: Whether dropout is on.
        """
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        attention = partial(
            MultiHeadAttention, self.num_heads, self.attention_dropout, dtype=self.dtype
        )

        def residual(x: Array, number: int, branch: Callable[[Array], Array]) -> Array:
            norm = nn.LayerNorm(epsilon=_EPSILON, dtype=self.dtype, name=f"norm{number}")
            if self.pre_norm:
                return x + dropout(branch(norm(x)))
            return norm(x + dropout(branch(x)))

        attend = partial(attention(name="attn"), mask=mask, position=position, train=train)
        x = residual(x, 1, attend)
        if memory is not None:
            cross = partial(
                attention(name="cross_attn"),
                keys=memory,
                mask=memory_mask,
                position=position,
                train=train,
            )
            x = residual(x, 2, cross)
        mlp = Mlp(self.mlp_dim, self.dropout, self.activation, dtype=self.dtype, name="mlp")
        return residual(x, 3, partial(mlp, train=train))


class Transformer(nn.Module):
    """Tokens of a source and of a target to logits of the target's next tokens.

    One embedding table is used for both and, transposed, for the logits. If ``intermediates`` is
    mutable, the attention maps of every block are stored there as ``encoder_blocks_I/attn``,
    ``decoder_blocks_I/attn`` and ``decoder_blocks_I/cross_attn``; with scanned layers they have a
    leading axis. For an encoder-only model call `encode`, for a decoder-only model `decode` without
    `memory`; initialise it with the same method.

    Attributes:
        vocab_size: Number of different tokens.
        hidden_dim: Features of a token.
        num_encoder_layers: Blocks of the encoder.
        num_decoder_layers: Blocks of the decoder.
        num_heads: Heads of every attention.
        mlp_dim: Hidden features of the blocks' MLP.
        activation: Activation of the MLP; silu is also called swish.
        pre_norm: Whether norms are before the branches, with one more after the last block of the
            encoder and of the decoder; else they are after the sums, as in the paper.
        final_norm: Whether these last norms exist without `pre_norm`, too, as in
            `torch.nn.Transformer`.
        scale_embedding: Whether embeddings are multiplied by the square root of `hidden_dim`.
        positions: Sinusoids with sine and cosine ``interleaved``, or in two ``halves`` (Marian).
        logits_bias: Whether each token's logit has a bias (Marian).
        dropout: Dropout rate after the positions, the MLP's activation and each branch.
        attention_dropout: Dropout rate on the attention maps.
        scan_layers: Whether the encoder's blocks are compiled as one, and the decoder's; their
            parameters are then ``encoder_blocks`` and ``decoder_blocks`` with a leading axis.
        remat: Whether blocks are computed again in the backward pass, which saves memory.
        dtype: Dtype of the computation; parameters and logits are float32.
    """

    vocab_size: int = 37_000
    hidden_dim: int = 512
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    num_heads: int = 8
    mlp_dim: int = 2048
    activation: Literal["relu", "gelu", "silu"] = "relu"
    pre_norm: bool = False
    final_norm: bool = False
    scale_embedding: bool = True
    positions: Literal["interleaved", "halves"] = "interleaved"
    logits_bias: bool = False
    dropout: float = 0.1
    attention_dropout: float = 0.0
    scan_layers: bool = False
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Makes the submodules."""
        d = self.hidden_dim
        self.embedding = nn.Embed(
            self.vocab_size, d, dtype=self.dtype, embedding_init=nn.initializers.normal(d**-0.5)
        )
        self.embed_dropout = nn.Dropout(self.dropout)
        block = {
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation": _ACTIVATIONS[self.activation],
            "pre_norm": self.pre_norm,
            "dtype": self.dtype,
        }
        encoder_block = partial(EncoderBlock, **block, norm_epsilon=_EPSILON)
        decoder_block = partial(DecoderBlock, **block)
        if self.scan_layers:
            self.encoder_blocks, self.decoder_blocks = encoder_block(), decoder_block()
        else:
            self.encoder_blocks = [encoder_block() for _ in range(self.num_encoder_layers)]
            self.decoder_blocks = [decoder_block() for _ in range(self.num_decoder_layers)]
        if self.pre_norm or self.final_norm:
            self.encoder_norm = nn.LayerNorm(epsilon=_EPSILON, dtype=self.dtype)
            self.decoder_norm = nn.LayerNorm(epsilon=_EPSILON, dtype=self.dtype)
        if self.logits_bias:
            self.head_bias = self.param("head_bias", nn.initializers.zeros, (self.vocab_size,))

    def embed(
        self,
        tokens: Int[Array, "b n"],
        position: int | Int[Array, ""] = 0,
        *,
        train: bool = False,
    ) -> Float[Array, "b n d"]:
        """Embedded tokens with their positions; the first token has the position `position`."""
        x = self.embedding(tokens)
        if self.scale_embedding:
            x = x * self.hidden_dim**0.5
        positions = sincos_1d(
            tokens.shape[1],
            self.hidden_dim,
            start=position,
            interleaved=self.positions == "interleaved",
        )
        return self.embed_dropout(x + positions.astype(x.dtype), deterministic=not train)

    def encode(
        self,
        sources: Int[Array, "b s"],
        sources_valid: Bool[Array, "b s"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b s d"]:
        """Encoded tokens of the source; valid tokens (default: all) do not depend on the others."""
        mask = None if sources_valid is None else sources_valid[:, None, None]
        x = self.embed(sources, train=train)

        def call(
            block: nn.Module, x: Float[Array, "b s d"], _: None, mask: Bool[Array, "b 1 1 s"] | None
        ) -> Float[Array, "b s d"]:
            return block(x, mask=mask, train=train)

        rates = [0.0] * self.num_encoder_layers
        remat = self.remat and train
        x = run_layers(self.encoder_blocks, call, x, rates, mask, remat=remat)
        return self.encoder_norm(x) if self.pre_norm or self.final_norm else x

    def decode(
        self,
        targets: Int[Array, "b t"],
        memory: Float[Array, "b s d"] | None = None,
        memory_valid: Bool[Array, "b s"] | None = None,
        targets_valid: Bool[Array, "b t"] | None = None,
        *,
        position: int | Int[Array, ""] | None = None,
        train: bool = False,
    ) -> Float[Array, "b t v"]:
        """Logits of the token that follows each target token, from that token and earlier ones.

        Args:
            targets: Tokens of the target; the first is the start token.
            memory: The result of `encode`; absent in a decoder-only model.
            memory_valid: True for tokens of `memory` that may be attended to; all if absent.
            targets_valid: True for tokens of `targets` that may be attended to; all if absent.
            position: Position of the first of `targets`, if a sequence is decoded in steps: see
                `MultiHeadAttention`. All earlier tokens may then be attended to.
            train: Whether dropout is on.
        """
        mask = jnp.tri(targets.shape[1], dtype=bool)[None, None]
        if targets_valid is not None:
            mask = mask & targets_valid[:, None, None]
        memory_mask = None if memory_valid is None else memory_valid[:, None, None]
        x = self.embed(targets, 0 if position is None else position, train=train)
        shared = memory, mask, memory_mask, position

        def call(
            block: nn.Module, x: Float[Array, "b t d"], _: None, *shared: Any
        ) -> Float[Array, "b t d"]:
            memory, mask, memory_mask, position = shared
            return block(
                x, memory, mask=mask, memory_mask=memory_mask, position=position, train=train
            )

        rates = [0.0] * self.num_decoder_layers
        remat = self.remat and train
        x = run_layers(self.decoder_blocks, call, x, rates, *shared, remat=remat)
        return self.logits(self.decoder_norm(x) if self.pre_norm or self.final_norm else x)

    def logits(self, x: Float[Array, "b t d"]) -> Float[Array, "b t v"]:
        """Dot products with all embeddings, plus any bias, in float32."""
        table = self.embedding.embedding.astype(self.dtype)
        logits = jnp.einsum("btd,vd->btv", x, table, preferred_element_type=jnp.float32)
        return logits + self.head_bias if self.logits_bias else logits

    def __call__(
        self,
        sources: Int[Array, "b s"],
        targets: Int[Array, "b t"],
        sources_valid: Bool[Array, "b s"] | None = None,
        targets_valid: Bool[Array, "b t"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b t v"]:
        """Logits of the token that follows each target token.

        Args:
            sources: Tokens of the source.
            targets: Tokens that the decoder is given; the first is the start token.
            sources_valid: False for padding; all are valid if absent.
            targets_valid: False for padding; all are valid if absent.
            train: Whether dropout is on; needs the ``dropout`` stream.
        """
        memory = self.encode(sources, sources_valid, train=train)
        return self.decode(targets, memory, sources_valid, targets_valid, train=train)
