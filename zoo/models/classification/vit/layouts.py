"""Names of timm, torchvision, Hugging Face transformers and FAIR for ViT: rules for a model."""

from collections.abc import Mapping

from flax import linen as nn

from zoo.family import Rule
from zoo.weights.blocks import huggingface_blocks, timm_blocks
from zoo.weights.maps import (
    CLASS_TOKEN,
    SAME,
    dense,
    fused_attention,
    norm,
    patch_embed,
    position_rule,
    positions,
    rule,
)


def timm(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for `VisionTransformer`; the norm after the pooling is their `fc_norm`."""
    return (
        *patch_embed("patch_embed.proj", model.patch_size),
        rule("cls_token", "cls_token", layout=CLASS_TOKEN),
        position_rule("pos_embed", model),
        *timm_blocks("blocks", "blocks"),
        *norm("fc_norm" if model.norm_after_pool else "norm", "norm"),
        *dense("head", "head"),
    )


def torchvision(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for `VisionTransformer`, which always has a class token."""
    block, ours = "encoder.layers.encoder_layer_{i}", "blocks_{i}"
    fused = f"{block}.self_attention.in_proj"
    return (
        *patch_embed("conv_proj", model.patch_size),
        rule("class_token", "cls_token", layout=CLASS_TOKEN),
        rule(
            "encoder.pos_embedding",
            "pos_embed",
            "cls_pos_embed",
            layout=positions(class_token=True),
        ),
        *norm(f"{block}.ln_1", f"{ours}/norm1"),
        *fused_attention(f"{fused}_weight", f"{fused}_bias", f"{ours}/attn"),
        *dense(f"{block}.self_attention.out_proj", f"{ours}/attn/out"),
        *norm(f"{block}.ln_2", f"{ours}/norm2"),
        *dense(f"{block}.mlp.0", f"{ours}/mlp/fc1"),
        *dense(f"{block}.mlp.3", f"{ours}/mlp/fc2"),
        *norm("encoder.ln", "norm"),
        *dense("heads.pre_logits", "representation"),
        *dense("heads.head", "head"),
    )


def huggingface(model: nn.Module, prefix: str, names: Mapping[str, str]) -> tuple[Rule, ...]:
    """Rules for `ViTModel` or `ViTForImageClassification`; our `representation` is their pooler."""
    return (
        *huggingface_body(model, prefix, names),
        position_rule(f"{prefix}embeddings.position_embeddings", model),
        *dense(f"{prefix}pooler.dense", "representation"),
        *dense("classifier", "head"),
    )


def huggingface_body(
    model: nn.Module, prefix: str, names: Mapping[str, str], ours: str = ""
) -> tuple[Rule, ...]:
    """The rules that ViT and the encoder of MAE share; `ours` is the prefix of our names."""
    return (
        *patch_embed(
            f"{prefix}embeddings.patch_embeddings.projection",
            model.patch_size,
            f"{ours}patch_embed",
        ),
        rule(f"{prefix}embeddings.cls_token", f"{ours}cls_token", layout=CLASS_TOKEN),
        *huggingface_blocks(f"{prefix}{names['']}", f"{ours}blocks_{{i}}", names),
        *norm(f"{prefix}layernorm", f"{ours}norm"),
    )


def fair(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for `VisionTransformer` after fine-tuning or linear probing."""
    if not model.head_batch_norm:
        return timm(model)
    body = tuple(entry for entry in timm(model) if not entry.theirs.startswith("head."))
    return (
        *body,
        Rule("head.0.running_mean", ("batch_stats/head_norm/mean",), SAME),
        Rule("head.0.running_var", ("batch_stats/head_norm/var",), SAME),
        *dense("head.1", "head"),
    )
