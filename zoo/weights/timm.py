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
    position_rule,
    rule,
)


def vit(model: nn.Module) -> tuple[Rule, ...]:
    """`VisionTransformer`; the norm after the pooling is their `fc_norm`."""
    return (
        *patch_embed("patch_embed.proj", model.patch_size),
        rule("cls_token", "cls_token", layout=CLASS_TOKEN),
        position_rule("pos_embed", model),
        *blocks("blocks", "blocks"),
        *norm("fc_norm" if model.norm_after_pool else "norm", "norm"),
        *dense("head", "head"),
    )


def blocks(theirs: str, ours: str) -> tuple[Rule, ...]:
    """A list of `Block`, and our blocks of that name and number."""
    theirs, ours = f"{theirs}.{{i}}", f"{ours}_{{i}}"
    return (
        *norm(f"{theirs}.norm1", f"{ours}/norm1"),
        *fused_attention(f"{theirs}.attn.qkv.weight", f"{theirs}.attn.qkv.bias", f"{ours}/attn"),
        *dense(f"{theirs}.attn.proj", f"{ours}/attn/out"),
        *norm(f"{theirs}.norm2", f"{ours}/norm2"),
        *dense(f"{theirs}.mlp.fc1", f"{ours}/mlp/fc1"),
        *dense(f"{theirs}.mlp.fc2", f"{ours}/mlp/fc2"),
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
