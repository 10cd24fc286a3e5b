"""Names of Hugging Face's translators ``Helsinki-NLP/opus-mt-*`` and of torch for the Transformer.

PyTorch's `torch.nn.Transformer` contains no embedding. The names are those of a module that has it
as ``transformer`` and an embedding as ``embedding``, which are the usual names.
"""

import json
from pathlib import Path
from typing import Any

from flax import linen as nn

from zoo.family import NameMap, Rule
from zoo.text_files import read_text
from zoo.types import InputError
from zoo.weights.maps import dense, fused_attention, norm, reshape, rule

_ACTIVATIONS = {"swish": "silu", "silu": "silu", "relu": "relu", "gelu": "gelu"}
_PROJECTIONS = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}


def marian(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for `MarianMTModel` with one embedding for source, target and logits."""

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


def torch(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for encoder, decoder, their last norms, and the embedding, also used for logits."""

    def attention(theirs: str, ours: str) -> tuple[Rule, ...]:
        return (
            *fused_attention(f"{theirs}.in_proj_weight", f"{theirs}.in_proj_bias", ours),
            *dense(f"{theirs}.out_proj", f"{ours}/out"),
        )

    rules = [rule("embedding.weight", "embedding/embedding")]
    for side, norms in (("encoder", (1, 2)), ("decoder", (1, 2, 3))):
        theirs, ours = f"transformer.{side}.layers.{{i}}", f"{side}_blocks_{{i}}"
        rules += attention(f"{theirs}.self_attn", f"{ours}/attn")
        rules += dense(f"{theirs}.linear1", f"{ours}/mlp/fc1")
        rules += dense(f"{theirs}.linear2", f"{ours}/mlp/fc2")
        for number in norms:
            rules += norm(f"{theirs}.norm{number}", f"{ours}/norm{number}")
        rules += norm(f"transformer.{side}.norm", f"{side}_norm")
    rules += attention(
        "transformer.decoder.layers.{i}.multihead_attn", "decoder_blocks_{i}/cross_attn"
    )
    return tuple(rules)


def read_marian_fields(folder: Path) -> dict[str, Any]:
    """The fields of `Transformer` from a translator's config.json; none if there is no such file.

    Raises:
        InputError: If the file is not of a Marian model, or of one that `Transformer` lacks support
            for.
    """
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(read_text(path))
        if config["model_type"] != "marian":
            raise InputError(f"{path}: is for the model {config['model_type']!r}, not marian")
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
    """Raises InputError for settings with which the model would load but compute wrong outputs."""
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

NAMES = (NameMap("huggingface", marian, _IGNORED), NameMap("torch", torch))
