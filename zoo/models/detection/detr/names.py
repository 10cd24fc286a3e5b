"""Names of Hugging Face transformers and FAIR (facebookresearch/detr) for DETR.

FAIR's names are those of `detr-r50-e632da11.pth` and similar files: class k of the head is COCO's
category id k; the last is "no object". Files of Hugging Face keep the names of transformers 4; a
`state_dict` of transformers 5 has other names. In both, the backbone has timm's names, or those of
Hugging Face's own ResNet.
"""

from functools import partial

from flax import linen as nn

from zoo.family import NameMap, Rule
from zoo.models.backbones import backbone_rules
from zoo.weights.maps import (
    BATCH_COUNTERS,
    POINTWISE,
    biased_conv,
    dense,
    fused_attention,
    norm,
    rule,
)


def fair(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for `DETR`, or for `DETRsegm` around it if the model has masks."""
    prefix = "detr." if model.masks else ""
    attentions = {
        "encoder": {"self_attn": "attn"},
        "decoder": {"self_attn": "self_attn", "multihead_attn": "cross_attn"},
    }
    layers: list[Rule] = []
    for part, names in attentions.items():
        theirs, ours = f"{prefix}transformer.{part}.layers.{{i}}", f"{part}_{{i}}"
        for name, our_name in names.items():
            fused = f"{theirs}.{name}.in_proj"
            layers += fused_attention(f"{fused}_weight", f"{fused}_bias", f"{ours}/{our_name}")
            layers += dense(f"{theirs}.{name}.out_proj", f"{ours}/{our_name}/out")
        for k in (1, 2):
            layers += dense(f"{theirs}.linear{k}", f"{ours}/mlp/fc{k}")
        for k in (1, 2, 3):
            layers += norm(f"{theirs}.norm{k}", f"{ours}/norm{k}")
    return (
        *backbone_rules(model.make_body(), "timm", f"{prefix}backbone.0.body."),
        rule(f"{prefix}input_proj.weight", "input_proj/kernel", layout=POINTWISE),
        rule(f"{prefix}input_proj.bias", "input_proj/bias"),
        rule(f"{prefix}query_embed.weight", "query_embed"),
        *layers,
        *norm(f"{prefix}transformer.encoder.norm", "encoder_norm"),
        *norm(f"{prefix}transformer.decoder.norm", "decoder_norm"),
        *dense(f"{prefix}class_embed", "head"),
        *_box_head(f"{prefix}bbox_embed"),
        *_mask_head(),
    )


def _box_head(theirs: str) -> tuple[Rule, ...]:
    """Rules for the three layers of the head for boxes."""
    layers = [dense(f"{theirs}.layers.{k}", f"box_head/fc{k + 1}") for k in range(3)]
    return tuple(entry for rules in layers for entry in rules)


def _mask_head() -> tuple[Rule, ...]:
    """Rules for the head for masks; Hugging Face's files use the same names."""
    rules: list[Rule] = []
    for k in range(1, 6):
        rules += biased_conv(f"mask_head.lay{k}", f"mask_head/conv{k}")
        rules += norm(f"mask_head.gn{k}", f"mask_head/norm{k}")
    for k in range(1, 4):
        rules += biased_conv(f"mask_head.adapter{k}", f"mask_head/adapter{k}")
    return (
        *dense("bbox_attention.q_linear", "mask_attention/query"),
        *dense("bbox_attention.k_linear", "mask_attention/key"),
        *rules,
        *biased_conv("mask_head.out_lay", "mask_head/out"),
    )


def huggingface(model: nn.Module, *, file: bool, own_backbone: bool) -> tuple[Rule, ...]:
    """Rules for `DetrForObjectDetection`, or, with masks, `DetrForSegmentation` around it."""
    outer = "detr." if model.masks else ""
    inner = f"{outer}model."
    body = f"{inner}backbone.{'conv_encoder.' if file else ''}model."
    source = "huggingface" if own_backbone else "timm"
    backbone = backbone_rules(model.make_body(), source, body)

    out, mlp = ("out_proj", "") if file else ("o_proj", "mlp.")
    parts = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": out}
    attentions = {
        "encoder": {"self_attn": "attn"},
        "decoder": {"self_attn": "self_attn", "encoder_attn": "cross_attn"},
    }
    layers: list[Rule] = []
    for part, names in attentions.items():
        theirs, ours = f"{inner}{part}.layers.{{i}}", f"{part}_{{i}}"
        for k, (name, our_name) in enumerate(names.items(), start=1):
            for our_part, their_part in parts.items():
                layers += dense(f"{theirs}.{name}.{their_part}", f"{ours}/{our_name}/{our_part}")
            layers += norm(f"{theirs}.{name}_layer_norm", f"{ours}/norm{k}")
        layers += norm(f"{theirs}.final_layer_norm", f"{ours}/norm{len(names) + 1}")
        for k in (1, 2):
            layers += dense(f"{theirs}.{mlp}fc{k}", f"{ours}/mlp/fc{k}")
    return (
        *backbone,
        rule(f"{inner}input_projection.weight", "input_proj/kernel", layout=POINTWISE),
        rule(f"{inner}input_projection.bias", "input_proj/bias"),
        rule(f"{inner}query_position_embeddings.weight", "query_embed"),
        *layers,
        *norm(f"{inner}decoder.layernorm", "decoder_norm"),
        *dense(f"{outer}class_labels_classifier", "head"),
        *_box_head(f"{outer}bbox_predictor"),
        *(_mask_head() if file else _state_mask_head()),
    )


def _state_mask_head() -> tuple[Rule, ...]:
    """Rules for `mask_head` and `bbox_attention` of a `state_dict` of transformers 5."""
    blocks = ["conv1", "conv2", *(f"fpn_stages.{k}.refine" for k in range(3))]
    rules: list[Rule] = []
    for k, block in enumerate(blocks, start=1):
        rules += biased_conv(f"mask_head.{block}.conv", f"mask_head/conv{k}")
        rules += norm(f"mask_head.{block}.norm", f"mask_head/norm{k}")
    for k in range(3):
        rules += biased_conv(f"mask_head.fpn_stages.{k}.fpn_adapter", f"mask_head/adapter{k + 1}")
    return (
        *dense("bbox_attention.q_proj", "mask_attention/query"),
        *dense("bbox_attention.k_proj", "mask_attention/key"),
        *rules,
        *biased_conv("mask_head.output_conv", "mask_head/out"),
    )


NAMES = (
    *(
        NameMap(
            "huggingface",
            partial(huggingface, file=file, own_backbone=own_backbone),
            BATCH_COUNTERS,
        )
        for file in (True, False)
        for own_backbone in (False, True)
    ),
    NameMap("fair", fair, BATCH_COUNTERS),
)
