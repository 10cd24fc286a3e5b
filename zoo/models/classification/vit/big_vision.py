"""Names of big_vision and vision_transformer for ViT.

big_vision adds no position to the class token; vision_transformer does.
"""

import numpy as np
from flax import linen as nn

from zoo.family import Layout, Rule
from zoo.weights.big_vision import attention, dense, norm, patch_embed
from zoo.weights.maps import CLASS_TOKEN, positions, rule

# Their class token has no position: ours is read as zeros, and the sum of our token and its
# position is written.
_BARE_TOKEN = Layout(
    lambda x: (x[0, 0], np.zeros_like(x[0, 0])),
    lambda token, position: (token + position)[None, None],
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
    """Rules for ViT; `numbers` are in the names of a block's norm, attention, second norm, MLP."""
    first, attend, second, mlp = numbers
    theirs, ours = "Transformer/encoderblock_{i}", "blocks_{i}"
    heads = f"{theirs}/MultiHeadDotProductAttention_{attend}"
    return (
        *patch_embed("embedding", model),
        *_positions(model, of_token=of_token),
        *norm(f"{theirs}/LayerNorm_{first}", f"{ours}/norm1"),
        *attention(heads, f"{ours}/attn", model.hidden_dim, model.num_heads),
        *norm(f"{theirs}/LayerNorm_{second}", f"{ours}/norm2"),
        *dense(f"{theirs}/MlpBlock_{mlp}/Dense_0", f"{ours}/mlp/fc1"),
        *dense(f"{theirs}/MlpBlock_{mlp}/Dense_1", f"{ours}/mlp/fc2"),
        *norm("Transformer/encoder_norm", "norm"),
        *dense("pre_logits", "representation"),
        *dense("head", "head"),
    )
