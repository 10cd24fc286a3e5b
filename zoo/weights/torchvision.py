"""torchvision's names: ViT, ResNet."""

from flax import linen as nn

from zoo.weights import timm
from zoo.weights.maps import (
    BATCH_COUNTERS,
    CLASS_TOKEN,
    NameMap,
    Rule,
    dense,
    fused_attention,
    norm,
    patch_embed,
    positions,
    rule,
)


def vit(model: nn.Module) -> tuple[Rule, ...]:
    """`VisionTransformer`, which always has a class token."""
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


MAPS = {
    "ViT": (NameMap("torchvision", vit),),
    "ResNet": (NameMap("torchvision", timm.resnet, BATCH_COUNTERS),),
}
