"""The names of google-research's big_vision and vision_transformer (npz files): ViT, MLP-Mixer.

Their layers have flax's own names and layouts, heads as an axis of their own. big_vision adds no
position to the class token; vision_transformer does.
"""

from functools import partial

import numpy as np
from flax import linen as nn

from zoo.weights.maps import CLASS_TOKEN, Layout, NameMap, Rule, positions, reshape, rule

# A class token without a position; one that had a position goes back as their sum.
_BARE_TOKEN = Layout(
    lambda x: (x[0, 0], np.zeros_like(x[0, 0])),
    lambda token, position: (token + position)[None, None],
)


def _dense(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        rule(f"{theirs}/kernel", f"{ours}/kernel"),
        rule(f"{theirs}/bias", f"{ours}/bias"),
    )


def _norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        rule(f"{theirs}/scale", f"{ours}/scale"),
        rule(f"{theirs}/bias", f"{ours}/bias"),
    )


def _patch_embed(theirs: str, model: nn.Module) -> tuple[Rule, ...]:
    p, d = model.patch_size, model.hidden_dim
    return (
        rule(f"{theirs}/kernel", "patch_embed/proj/kernel", layout=reshape((-1, d), (p, p, -1, d))),
        rule(f"{theirs}/bias", "patch_embed/proj/bias"),
    )


def _attention(theirs: str, ours: str, dim: int, heads: int) -> tuple[Rule, ...]:
    width = dim // heads
    kernel = reshape((dim, dim), (dim, heads, width))
    bias = reshape((dim,), (heads, width))
    parts = [
        (
            rule(f"{theirs}/{part}/kernel", f"{ours}/{part}/kernel", layout=kernel),
            rule(f"{theirs}/{part}/bias", f"{ours}/{part}/bias", layout=bias),
        )
        for part in ("query", "key", "value")
    ]
    out = reshape((dim, dim), (heads, width, dim))
    return (
        *(entry for pair in parts for entry in pair),
        rule(f"{theirs}/out/kernel", f"{ours}/out/kernel", layout=out),
        rule(f"{theirs}/out/bias", f"{ours}/out/bias"),
    )


def _positions(model: nn.Module, *, of_token: bool) -> tuple[Rule, ...]:
    if of_token and model.class_token:
        layout = positions(class_token=True)
        theirs = "Transformer/posembed_input/pos_embedding"
        return (
            rule("cls", "cls_token", layout=CLASS_TOKEN),
            rule(theirs, "pos_embed", "cls_pos_embed", layout=layout),
        )
    theirs = "Transformer/posembed_input/pos_embedding" if of_token else "pos_embedding"
    learned = model.positions == "learned"
    token = ("cls_token", "cls_pos_embed") if learned else ("cls_token",)
    return (
        rule("cls", *token, layout=_BARE_TOKEN if learned else CLASS_TOKEN),
        rule(theirs, "pos_embed", layout=positions(class_token=False)),
    )


def vit(
    model: nn.Module, numbers: tuple[int, int, int, int], *, of_token: bool
) -> tuple[Rule, ...]:
    """ViT; `numbers` are of a block's norm, attention, second norm and MLP."""
    first, attention, second, mlp = numbers
    theirs, ours = "Transformer/encoderblock_{i}", "blocks_{i}"
    heads = f"{theirs}/MultiHeadDotProductAttention_{attention}"
    return (
        *_patch_embed("embedding", model),
        *_positions(model, of_token=of_token),
        *_norm(f"{theirs}/LayerNorm_{first}", f"{ours}/norm1"),
        *_attention(heads, f"{ours}/attn", model.hidden_dim, model.num_heads),
        *_norm(f"{theirs}/LayerNorm_{second}", f"{ours}/norm2"),
        *_dense(f"{theirs}/MlpBlock_{mlp}/Dense_0", f"{ours}/mlp/fc1"),
        *_dense(f"{theirs}/MlpBlock_{mlp}/Dense_1", f"{ours}/mlp/fc2"),
        *_norm("Transformer/encoder_norm", "norm"),
        *_dense("pre_logits", "representation"),
        *_dense("head", "head"),
    )


def mlp_mixer(model: nn.Module) -> tuple[Rule, ...]:
    """MLP-Mixer, the same in both repositories."""
    theirs, ours = "MixerBlock_{i}", "blocks_{i}"
    return (
        *_patch_embed("stem", model),
        *_norm(f"{theirs}/LayerNorm_0", f"{ours}/norm1"),
        *_dense(f"{theirs}/token_mixing/Dense_0", f"{ours}/mlp_tokens/fc1"),
        *_dense(f"{theirs}/token_mixing/Dense_1", f"{ours}/mlp_tokens/fc2"),
        *_norm(f"{theirs}/LayerNorm_1", f"{ours}/norm2"),
        *_dense(f"{theirs}/channel_mixing/Dense_0", f"{ours}/mlp_channels/fc1"),
        *_dense(f"{theirs}/channel_mixing/Dense_1", f"{ours}/mlp_channels/fc2"),
        *_norm("pre_head_layer_norm", "norm"),
        *_dense("head", "head"),
    )


MAPS = {
    "ViT": (
        NameMap("big_vision", partial(vit, numbers=(0, 0, 1, 0), of_token=False)),
        NameMap("big_vision", partial(vit, numbers=(0, 1, 2, 3), of_token=True)),
    ),
    "MlpMixer": (NameMap("big_vision", mlp_mixer),),
}
