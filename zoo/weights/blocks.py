"""Other projects' names for layers of `zoo.layers`, for the families that use these layers."""

from collections.abc import Mapping

from zoo.family import Rule
from zoo.weights.maps import batch_norm, biased_conv, dense, fused_attention, norm

# Our names of the parts of an encoder layer -> Hugging Face's names: in files
# (transformers 4), and in a `state_dict` of transformers 5.
HUGGINGFACE_FILE = {
    "": "encoder.layer.{i}",
    "attn/query": "attention.attention.query",
    "attn/key": "attention.attention.key",
    "attn/value": "attention.attention.value",
    "attn/out": "attention.output.dense",
    "mlp/fc1": "intermediate.dense",
    "mlp/fc2": "output.dense",
}
HUGGINGFACE_STATE = {
    "": "layers.{i}",
    "attn/query": "attention.q_proj",
    "attn/key": "attention.k_proj",
    "attn/value": "attention.v_proj",
    "attn/out": "attention.o_proj",
    "mlp/fc1": "mlp.fc1",
    "mlp/fc2": "mlp.fc2",
}


def timm_blocks(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules for timm's list of `Block`s; ours are `EncoderBlock`s with the same numbers."""
    theirs, ours = f"{theirs}.{{i}}", f"{ours}_{{i}}"
    return (
        *norm(f"{theirs}.norm1", f"{ours}/norm1"),
        *fused_attention(f"{theirs}.attn.qkv.weight", f"{theirs}.attn.qkv.bias", f"{ours}/attn"),
        *dense(f"{theirs}.attn.proj", f"{ours}/attn/out"),
        *norm(f"{theirs}.norm2", f"{ours}/norm2"),
        *dense(f"{theirs}.mlp.fc1", f"{ours}/mlp/fc1"),
        *dense(f"{theirs}.mlp.fc2", f"{ours}/mlp/fc2"),
    )


def huggingface_blocks(theirs: str, ours: str, names: Mapping[str, str]) -> tuple[Rule, ...]:
    """Rules for Hugging Face's `ViTLayer`; `names` is for files or for a state dict: see above."""
    denses = [dense(f"{theirs}.{names[part]}", f"{ours}/{part}") for part in names if part]
    return (
        *norm(f"{theirs}.layernorm_before", f"{ours}/norm1"),
        *norm(f"{theirs}.layernorm_after", f"{ours}/norm2"),
        *(entry for pair in denses for entry in pair),
    )


def torchvision_fpn(theirs: str, ours: str, *, old: bool = False) -> tuple[Rule, ...]:
    """Rules for `FeaturePyramidNetwork`; `ours` is an `FPN`.

    Args:
        theirs: Its path, such as ``backbone.fpn``.
        ours: The path of ours.
        old: Whether the names are those of files from before torchvision 0.13.
    """
    rules: list[Rule] = []
    for part, name in (("inner_blocks", "lateral"), ("layer_blocks", "output")):
        block = f"{theirs}.{part}.{{i}}"
        rules += biased_conv(block if old else f"{block}.0", f"{ours}/{name}_conv_{{i}}")
        rules += batch_norm(f"{block}.1", f"{ours}/{name}_norm_{{i}}")
    for k in range(2):
        rules += biased_conv(f"{theirs}.extra_blocks.p{6 + k}", f"{ours}/extra_conv_{k}")
    return tuple(rules)


def detectron2_fpn(theirs: str, ours: str, *, first: int = 2) -> tuple[Rule, ...]:
    """Rules for detectron2's `FPN`; `ours` is an `FPN` of at most 8 levels.

    Args:
        theirs: Its path, such as ``backbone``.
        ours: The path of ours.
        first: Number of the finest level: 2 for P2, of stride 4.
    """
    rules: list[Rule] = []
    for i in range(8):
        for part in ("lateral", "output"):
            conv_name = f"{theirs}.fpn_{part}{first + i}"
            rules += biased_conv(conv_name, f"{ours}/{part}_conv_{i}")
            rules += batch_norm(f"{conv_name}.norm", f"{ours}/{part}_norm_{i}")
    for k in range(2):
        rules += biased_conv(f"{theirs}.top_block.p{6 + k}", f"{ours}/extra_conv_{k}")
    return tuple(rules)


def mmdet_fpn(theirs: str, ours: str, *, levels: int, norm_name: str = "bn") -> tuple[Rule, ...]:
    """Rules for mmdet's `FPN` or `PAFPN`; `ours` is the same.

    Args:
        theirs: Its path, such as ``neck``.
        ours: The path of ours.
        levels: Number of the backbone's maps, after which the extra convolutions are numbered.
        norm_name: ``bn`` or ``gn``.
    """
    parts = {
        "lateral_convs": "lateral",
        "fpn_convs": "output",
        "downsample_convs": "down",
        "pafpn_convs": "merge",
    }
    rules: list[Rule] = []
    for part, name in parts.items():
        rules += biased_conv(f"{theirs}.{part}.{{i}}.conv", f"{ours}/{name}_conv_{{i}}")
        rules += batch_norm(f"{theirs}.{part}.{{i}}.{norm_name}", f"{ours}/{name}_norm_{{i}}")
    for k in range(2):
        rules += biased_conv(f"{theirs}.fpn_convs.{levels + k}.conv", f"{ours}/extra_conv_{k}")
    return tuple(rules)
