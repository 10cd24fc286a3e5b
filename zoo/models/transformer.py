"""Transformer: sequences of tokens to sequences of tokens.

Paper: "Attention Is All You Need", arXiv 1706.03762. References: tensor2tensor's `transformer.py`,
the authors' own; `torch.nn.Transformer`; Hugging Face's `modeling_marian.py`, for the public
translators of Helsinki-NLP.

Deviations: the dropout of the residual branches is also after the MLP's activation, as in
`torch.nn.Transformer`; dense layers have biases and are initialised by Xavier's uniform
distribution, as in tensor2tensor; the norms' epsilon is 1e-5, as in PyTorch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.layers import EncoderBlock, Mlp, MultiHeadAttention, run_layers, sincos_1d
from zoo.types import Variant

_EPSILON = 1e-5
_ACTIVATIONS = {"relu": nn.relu, "gelu": partial(nn.gelu, approximate=False), "silu": nn.silu}


class DecoderBlock(nn.Module):
    """Attention to what came before, attention to the source, MLP (figure 1 right).

    Called without a memory it has no second attention: the block of a decoder-only model.

    Attributes:
        num_heads: Heads of both attentions.
        mlp_dim: Hidden features of the MLP.
        dropout: Rate after the MLP's activation and each branch.
        attention_dropout: Rate on the attention maps.
        activation: Of the MLP.
        pre_norm: Whether the norms are before the branches; else after the sums.
        dtype: Of the computation; parameters are float32.
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
        """The next tokens; training with any dropping needs the ``dropout`` stream.

        Args:
            x: Tokens of the target.
            memory: Encoded tokens of the source.
            mask: True where the token of the row may look at that of the column.
            memory_mask: True for the source's tokens that may be looked at.
            position: Of the first token, where a sequence is decoded in steps: see
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

    One table embeds both and, transposed, gives the logits. The attention maps of every block are
    sown as ``encoder_blocks_I/attn``, ``decoder_blocks_I/attn`` and ``decoder_blocks_I/cross_attn``
    when ``intermediates`` is mutable, of scanned layers with a leading axis. Encoder-only:
    `encode`; decoder-only: `decode` without a memory; initialise with the same method.

    Attributes:
        vocab_size: Different tokens.
        hidden_dim: Features of a token.
        num_encoder_layers: Blocks of the encoder.
        num_decoder_layers: Blocks of the decoder.
        num_heads: Heads of every attention.
        mlp_dim: Hidden features of the blocks' MLP.
        activation: Of the MLP; silu is also called swish.
        pre_norm: Whether norms are before the branches, and one after the last block of each side;
            else after the sums, as in the paper.
        final_norm: Whether that last norm is there without `pre_norm` as well, as in
            `torch.nn.Transformer`.
        scale_embedding: Whether embeddings are multiplied by the square root of `hidden_dim`.
        positions: Sinusoids with sine and cosine ``interleaved``, or in two ``halves`` (Marian).
        logits_bias: Whether each token's logit has a bias (Marian).
        dropout: Rate after the positions, the MLP's activation and each branch.
        attention_dropout: Rate on the attention maps.
        scan_layers: Whether the blocks of each side are compiled as one; their parameters are then
            ``encoder_blocks`` and ``decoder_blocks`` with a leading axis.
        remat: Whether blocks are computed again in the backward pass, which saves memory.
        dtype: Of the computation; parameters and logits are float32.
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
        """Embedded tokens with their positions, the first one's being `position`."""
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
        """Encoded tokens of the source; valid ones, all if absent, do not depend on others."""
        mask = None if sources_valid is None else sources_valid[:, None, None]
        x = self.embed(sources, train=train)

        def call(block: nn.Module, x: Array, _: None, mask: Array | None) -> Array:
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
        """Logits of the token after each of the target, from it and those before.

        Args:
            targets: Tokens, first the one that starts a target.
            memory: What `encode` returned; absent in a decoder-only model.
            memory_valid: True for its tokens that may be looked at; all if absent.
            targets_valid: True for the target's tokens that may be looked at; all if absent.
            position: Of the first of `targets` in a sequence that is decoded in steps: see
                `MultiHeadAttention`. All that came before may then be looked at.
            train: Whether dropout is on.
        """
        mask = jnp.tri(targets.shape[1], dtype=bool)[None, None]
        if targets_valid is not None:
            mask = mask & targets_valid[:, None, None]
        memory_mask = None if memory_valid is None else memory_valid[:, None, None]
        x = self.embed(targets, 0 if position is None else position, train=train)
        shared = memory, mask, memory_mask, position

        def call(block: nn.Module, x: Array, _: None, *shared: Any) -> Array:
            memory, mask, memory_mask, position = shared
            return block(
                x, memory, mask=mask, memory_mask=memory_mask, position=position, train=train
            )

        rates = [0.0] * self.num_decoder_layers
        remat = self.remat and train
        x = run_layers(self.decoder_blocks, call, x, rates, *shared, remat=remat)
        return self.logits(self.decoder_norm(x) if self.pre_norm or self.final_norm else x)

    def logits(self, x: Float[Array, "b t d"]) -> Float[Array, "b t v"]:
        """Similarity to each embedding, in float32."""
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
        """Logits of the token after each of the target.

        Args:
            sources: Tokens of the source.
            targets: Tokens that the decoder is given, first the one that starts a target.
            sources_valid: False for padding; all are valid if absent.
            targets_valid: False for padding; all are valid if absent.
            train: Whether dropout is on; needs the ``dropout`` stream.
        """
        memory = self.encode(sources, sources_valid, train=train)
        return self.decode(targets, memory, sources_valid, targets_valid, train=train)

    def example_inputs(self) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """A source and a target, as shapes, that the model can be initialised with."""
        tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
        return tokens, tokens


# Base and big: arXiv 1706.03762, table 3, without the table of positions.
VARIANTS = {
    "transformer_base": Variant(partial(Transformer)),
    "transformer_big": Variant(
        partial(Transformer, hidden_dim=1024, mlp_dim=4096, num_heads=16, dropout=0.3)
    ),
    "transformer_nano": Variant(  # not of any paper: for tests and demos
        partial(
            Transformer,
            vocab_size=256,
            hidden_dim=128,
            num_encoder_layers=2,
            num_decoder_layers=2,
            num_heads=4,
            mlp_dim=512,
        )
    ),
    "marian": Variant(  # Helsinki-NLP/opus-mt-en-de; `zoo.load` takes the sizes from config.json
        partial(
            Transformer,
            vocab_size=58_101,
            activation="silu",
            positions="halves",
            logits_bias=True,
        )
    ),
}
