"""Hugging Face's Marian translators, ``Helsinki-NLP/opus-mt-*``: names, and the model's fields."""

import json
from pathlib import Path
from typing import Any

from flax import linen as nn

from zoo.types import InputError
from zoo.weights.maps import NameMap, Rule, dense, norm, reshape, rule

_ACTIVATIONS = {"swish": "silu", "silu": "silu", "relu": "relu", "gelu": "gelu"}
_PROJECTIONS = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}


def transformer(model: nn.Module) -> tuple[Rule, ...]:
    """`MarianMTModel` with one embedding for everything."""

    def attention(theirs: str, ours: str) -> list[Rule]:
        pairs = [dense(f"{theirs}.{t}", f"{ours}/{o}") for t, o in _PROJECTIONS.items()]
        return [entry for pair in pairs for entry in pair]

    rules = [
        rule("model.shared.weight", "embedding/embedding"),
        rule("final_logits_bias", "head_bias", layout=reshape((-1,), (1, -1))),
    ]
    for side, last in (("encoder", 2), ("decoder", 3)):
        theirs, ours = f"model.{side}.layers.{{i}}", f"{side}_blocks_{{i}}"
        rules += attention(f"{theirs}.self_attn", f"{ours}/attn")
        rules += norm(f"{theirs}.self_attn_layer_norm", f"{ours}/norm1")
        rules += dense(f"{theirs}.fc1", f"{ours}/mlp/fc1")
        rules += dense(f"{theirs}.fc2", f"{ours}/mlp/fc2")
        rules += norm(f"{theirs}.final_layer_norm", f"{ours}/norm{last}")
    rules += attention("model.decoder.layers.{i}.encoder_attn", "decoder_blocks_{i}/cross_attn")
    rules += norm("model.decoder.layers.{i}.encoder_attn_layer_norm", "decoder_blocks_{i}/norm2")
    return tuple(rules)


def read_marian_fields(folder: Path) -> dict[str, Any]:
    """The fields of `Transformer` from a translator's config.json; none if there is no such file.

    Raises:
        InputError: If it is not of a Marian model, or of one that `Transformer` cannot be.
    """
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text())
        if config["model_type"] != "marian":
            raise InputError(f"{path}: of the model {config['model_type']!r}, not marian")
        _check(path, config)
        return {
            "vocab_size": int(config["vocab_size"]),
            "hidden_dim": int(config["d_model"]),
            "num_encoder_layers": int(config["encoder_layers"]),
            "num_decoder_layers": int(config["decoder_layers"]),
            "num_heads": int(config["encoder_attention_heads"]),
            "mlp_dim": int(config["encoder_ffn_dim"]),
            "activation": _ACTIVATIONS[config["activation_function"]],
            "scale_embedding": bool(config["scale_embedding"]),
            "dropout": float(config["dropout"]),
            "attention_dropout": float(config["attention_dropout"]),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not the configuration of a Marian model: {error!r}") from error


def _check(path: Path, config: dict[str, Any]) -> None:
    """Raises InputError for what would load and compute something else."""
    expected = {
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        "normalize_before": False,
        "normalize_embedding": False,
        "add_final_layer_norm": False,
        "decoder_vocab_size": config["vocab_size"],
        "decoder_attention_heads": config["encoder_attention_heads"],
        "decoder_ffn_dim": config["encoder_ffn_dim"],
    }
    for name, value in expected.items():
        if config.get(name, value) not in (value, None):
            raise InputError(f"{path}: {name} is {config[name]}, but only {value} is supported")


_IGNORED = {
    "model.*coder.embed_tokens.weight": "the shared embedding once more",
    "lm_head.weight": "the shared embedding once more",
    "model.*coder.embed_positions.weight": "sinusoids, which the model computes",
}

MAPS = {"Transformer": (NameMap("huggingface", transformer, _IGNORED),)}
