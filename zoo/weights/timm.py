"""timm's names (huggingface/pytorch-image-models): ViT, MLP-Mixer, ResNet."""

from flax import linen as nn

from zoo.weights.maps import (
    BATCH_COUNTERS,
    CLASS_TOKEN,
    NameMap,
    Rule,
    batch_norm,
    conv,
    dense,
    fused_attention,
    norm,
    patch_embed,
    positions,
    rule,
)


def vit(model: nn.Module) -> tuple[Rule, ...]:
    """`VisionTransformer`; the norm after the pooling is their `fc_norm`."""
    paths = ("pos_embed", "cls_pos_embed") if model.class_token else ("pos_embed",)
    layout = positions(class_token=model.class_token)
    return (
        *patch_embed("patch_embed.proj", model.patch_size),
        rule("cls_token", "cls_token", layout=CLASS_TOKEN),
        rule("pos_embed", *paths, layout=layout),
        *norm("blocks.{i}.norm1", "blocks_{i}/norm1"),
        *fused_attention(
            "blocks.{i}.attn.qkv.weight", "blocks.{i}.attn.qkv.bias", "blocks_{i}/attn"
        ),
        *dense("blocks.{i}.attn.proj", "blocks_{i}/attn/out"),
        *norm("blocks.{i}.norm2", "blocks_{i}/norm2"),
        *dense("blocks.{i}.mlp.fc1", "blocks_{i}/mlp/fc1"),
        *dense("blocks.{i}.mlp.fc2", "blocks_{i}/mlp/fc2"),
        *norm("fc_norm" if model.norm_after_pool else "norm", "norm"),
        *dense("head", "head"),
    )


def mlp_mixer(model: nn.Module) -> tuple[Rule, ...]:
    """`MlpMixer`."""
    return (
        *patch_embed("stem.proj", model.patch_size),
        *norm("blocks.{i}.norm1", "blocks_{i}/norm1"),
        *dense("blocks.{i}.mlp_tokens.fc1", "blocks_{i}/mlp_tokens/fc1"),
        *dense("blocks.{i}.mlp_tokens.fc2", "blocks_{i}/mlp_tokens/fc2"),
        *norm("blocks.{i}.norm2", "blocks_{i}/norm2"),
        *dense("blocks.{i}.mlp_channels.fc1", "blocks_{i}/mlp_channels/fc1"),
        *dense("blocks.{i}.mlp_channels.fc2", "blocks_{i}/mlp_channels/fc2"),
        *norm("norm", "norm"),
        *dense("head", "head"),
    )


def resnet(model: nn.Module) -> tuple[Rule, ...]:
    """`ResNet`; torchvision's has the same names."""
    stages = []
    for i in range(len(model.num_blocks)):
        theirs, ours = f"layer{i + 1}.{{j}}", f"stages_{i}_{{j}}"
        for k in (1, 2, 3):
            stages += conv(f"{theirs}.conv{k}", f"{ours}/conv{k}")
            stages += batch_norm(f"{theirs}.bn{k}", f"{ours}/norm{k}")
        stages += conv(f"{theirs}.downsample.0", f"{ours}/shortcut_conv")
        stages += batch_norm(f"{theirs}.downsample.1", f"{ours}/shortcut_norm")
    return (
        *conv("conv1", "stem_conv"),
        *batch_norm("bn1", "stem_norm"),
        *stages,
        *dense("fc", "head"),
    )


MAPS = {
    "ViT": (NameMap("timm", vit),),
    "MlpMixer": (NameMap("timm", mlp_mixer),),
    "ResNet": (NameMap("timm", resnet, BATCH_COUNTERS),),
}
