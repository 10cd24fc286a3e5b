"""Names of timm and big_vision for MLP-Mixer."""

from flax import linen as nn

from zoo.family import NameMap, Rule
from zoo.weights import big_vision as flax_names
from zoo.weights.maps import dense, norm, patch_embed


def timm(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for timm's `MlpMixer`."""
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


def big_vision(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for `MlpMixer` in big_vision and vision_transformer."""
    theirs, ours = "MixerBlock_{i}", "blocks_{i}"
    return (
        *flax_names.patch_embed("stem", model),
        *flax_names.norm(f"{theirs}/LayerNorm_0", f"{ours}/norm1"),
        *flax_names.dense(f"{theirs}/token_mixing/Dense_0", f"{ours}/mlp_tokens/fc1"),
        *flax_names.dense(f"{theirs}/token_mixing/Dense_1", f"{ours}/mlp_tokens/fc2"),
        *flax_names.norm(f"{theirs}/LayerNorm_1", f"{ours}/norm2"),
        *flax_names.dense(f"{theirs}/channel_mixing/Dense_0", f"{ours}/mlp_channels/fc1"),
        *flax_names.dense(f"{theirs}/channel_mixing/Dense_1", f"{ours}/mlp_channels/fc2"),
        *flax_names.norm("pre_head_layer_norm", "norm"),
        *flax_names.dense("head", "head"),
    )


NAMES = (NameMap("timm", timm), NameMap("big_vision", big_vision))
