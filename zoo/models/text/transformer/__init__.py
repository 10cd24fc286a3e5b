"""Transformer: see `model`."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from zoo.family import Family, Size, Variant
from zoo.models.text.transformer.loss import TokenLoss
from zoo.models.text.transformer.model import Transformer
from zoo.models.text.transformer.names import NAMES, read_marian_fields

# Base and big: arXiv 1706.03762, table 3, with sinusoids for positions.
_VARIANTS = {
    "transformer_base": Variant(parity="1e-6, `torch.nn`"),
    "transformer_big": Variant(
        {"hidden_dim": 1024, "mlp_dim": 4096, "num_heads": 16, "dropout": 0.3}
    ),
    "transformer_nano": Variant(  # from no paper: for tests and demos
        {
            "vocab_size": 256,
            "hidden_dim": 128,
            "num_encoder_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "mlp_dim": 512,
        }
    ),
    "marian": Variant(  # Helsinki-NLP/opus-mt-en-de; `zoo.load` takes the sizes from config.json
        {
            "vocab_size": 58_101,
            "activation": "silu",
            "positions": "halves",
            "logits_bias": True,
        },
        read_fields=read_marian_fields,
        paper="1804.00344",
        parity="1e-6, Hugging Face",
    ),
}


def _inputs(
    model: Any, size: Size | None, count: int, key: jax.Array
) -> tuple[Int[Array, "b s"], Int[Array, "b t"], Bool[Array, "b s"], Bool[Array, "b t"]]:
    """Tokens of sources and targets, and which are valid; the second example has two fewer."""
    keys = jax.random.split(key)
    sources = jax.random.randint(keys[0], (count, 9), 1, model.vocab_size)
    targets = jax.random.randint(keys[1], (count, 7), 1, model.vocab_size)
    fewer = 2 * (jnp.arange(count) == 1)[:, None]
    return sources, targets, jnp.arange(9) < 9 - fewer, jnp.arange(7) < 7 - fewer


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The embedding, then the encoder's blocks and the decoder's."""
    return (
        ("embedding",),
        *((f"encoder_blocks_{i}",) for i in range(model.num_encoder_layers)),
        *((f"decoder_blocks_{i}",) for i in range(model.num_decoder_layers)),
    )


FAMILY = Family(
    title="Transformer",
    summary="base, big, Marian",
    module=Transformer,
    task="text",
    paper="1706.03762",
    reference="tensor2tensor, torch.nn.Transformer, Marian",
    inputs=_inputs,
    names=NAMES,
    loss=TokenLoss,
    layers=_layers,
    variants=_VARIANTS,
)
