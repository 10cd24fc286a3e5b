"""A `torch.nn.Transformer` called ``transformer`` beside one embedding called ``embedding``.

PyTorch's module has no embedding of its own; this is what its users call them most.
"""

from flax import linen as nn

from zoo.weights.maps import NameMap, Rule, dense, fused_attention, norm, rule


def transformer(model: nn.Module) -> tuple[Rule, ...]:
    """Encoder, decoder, their last norms, and the embedding, which also gives the logits."""

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


MAPS = {"Transformer": (NameMap("torch", transformer),)}
