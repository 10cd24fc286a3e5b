"""Hugging Face transformers' names: ViT, ResNet.

A bare model (`ViTModel`, `ResNetModel`) lacks the prefix and the head that a classifier has. Files
written by `save_pretrained` keep the names of transformers 4; a `state_dict` of transformers 5 has
others for ViT.
"""

from functools import partial

from flax import linen as nn

from zoo.weights.maps import (
    BATCH_COUNTERS,
    CLASS_TOKEN,
    NameMap,
    Rule,
    batch_norm,
    conv,
    dense,
    norm,
    patch_embed,
    positions,
    rule,
)

# Ours, and theirs in files and in a `state_dict` of transformers 5.
_FILE = {
    "": "encoder.layer.{i}",
    "attn/query": "attention.attention.query",
    "attn/key": "attention.attention.key",
    "attn/value": "attention.attention.value",
    "attn/out": "attention.output.dense",
    "mlp/fc1": "intermediate.dense",
    "mlp/fc2": "output.dense",
}
_STATE = {
    "": "layers.{i}",
    "attn/query": "attention.q_proj",
    "attn/key": "attention.k_proj",
    "attn/value": "attention.v_proj",
    "attn/out": "attention.o_proj",
    "mlp/fc1": "mlp.fc1",
    "mlp/fc2": "mlp.fc2",
}


def vit(model: nn.Module, prefix: str, names: dict[str, str]) -> tuple[Rule, ...]:
    """`ViTModel` or `ViTForImageClassification`; `representation` is their pooler."""
    block = f"{prefix}{names['']}"
    denses = [
        dense(f"{block}.{theirs}", f"blocks_{{i}}/{ours}") for ours, theirs in names.items() if ours
    ]
    return (
        *patch_embed(f"{prefix}embeddings.patch_embeddings.projection", model.patch_size),
        rule(f"{prefix}embeddings.cls_token", "cls_token", layout=CLASS_TOKEN),
        rule(
            f"{prefix}embeddings.position_embeddings",
            "pos_embed",
            "cls_pos_embed",
            layout=positions(class_token=True),
        ),
        *norm(f"{block}.layernorm_before", "blocks_{i}/norm1"),
        *norm(f"{block}.layernorm_after", "blocks_{i}/norm2"),
        *(entry for pair in denses for entry in pair),
        *norm(f"{prefix}layernorm", "norm"),
        *dense(f"{prefix}pooler.dense", "representation"),
        *dense("classifier", "head"),
    )


def resnet(model: nn.Module, prefix: str) -> tuple[Rule, ...]:
    """`ResNetModel` or `ResNetForImageClassification`."""

    def layer(theirs: str, conv_name: str, norm_name: str) -> tuple[Rule, ...]:
        return (
            *conv(f"{prefix}{theirs}.convolution", conv_name),
            *batch_norm(f"{prefix}{theirs}.normalization", norm_name),
        )

    count = 3 if model.block == "bottleneck" else 2
    theirs, ours = "encoder.stages.{i}.layers.{j}", "stages_{i}_{j}"
    layers = [
        layer(f"{theirs}.layer.{k}", f"{ours}/conv{k + 1}", f"{ours}/norm{k + 1}")
        for k in range(count)
    ]
    return (
        *layer("embedder.embedder", "stem_conv", "stem_norm"),
        *(entry for rules in layers for entry in rules),
        *layer(f"{theirs}.shortcut", f"{ours}/shortcut_conv", f"{ours}/shortcut_norm"),
        *dense("classifier.1", "head"),
    )


_POOLER = {"*pooler.dense.*": "the pooler; a model with representation_dim has it"}

MAPS = {
    "ViT": tuple(
        NameMap("huggingface", partial(vit, prefix=prefix, names=names), _POOLER)
        for names in (_FILE, _STATE)
        for prefix in ("vit.", "")
    ),
    "ResNet": tuple(
        NameMap("huggingface", partial(resnet, prefix=prefix), BATCH_COUNTERS)
        for prefix in ("resnet.", "")
    ),
}
