"""Hugging Face transformers' names: ViT, MAE, ResNet, DETR.

A bare model (`ViTModel`, `ResNetModel`) lacks the prefix and the head that a classifier has. Files
written by `save_pretrained` keep the names of transformers 4; a `state_dict` of transformers 5 has
others for ViT and for DETR. DETR's backbone has timm's names or those of their own ResNet.
"""

from functools import partial

from flax import linen as nn

from zoo.weights import fair
from zoo.weights.mae import fixed_positions, headless, implied, reasons
from zoo.weights.maps import (
    BATCH_COUNTERS,
    CLASS_TOKEN,
    POINTWISE,
    NameMap,
    Rule,
    batch_norm,
    biased_conv,
    conv,
    dense,
    norm,
    patch_embed,
    position_rule,
    rule,
    within,
)

# Ours, and theirs in files and in a `state_dict` of transformers 5.
_FILE = {
    "": "encoder.layer.{i}",
    "attn/query": "attention.attention.query",
    "attn/key": "attention.attention.key",
    "attn/value": "attention.attention.value",
    "attn/out": "attention.output.dense",
    "mlp/fc1": "intermediate.dense",
    "mlp/fc2": "output.dense",
}
_STATE = {
    "": "layers.{i}",
    "attn/query": "attention.q_proj",
    "attn/key": "attention.k_proj",
    "attn/value": "attention.v_proj",
    "attn/out": "attention.o_proj",
    "mlp/fc1": "mlp.fc1",
    "mlp/fc2": "mlp.fc2",
}


def vit(model: nn.Module, prefix: str, names: dict[str, str]) -> tuple[Rule, ...]:
    """`ViTModel` or `ViTForImageClassification`; `representation` is their pooler."""
    return (
        *_body(model, prefix, names),
        position_rule(f"{prefix}embeddings.position_embeddings", model),
        *dense(f"{prefix}pooler.dense", "representation"),
        *dense("classifier", "head"),
    )


def _body(model: nn.Module, prefix: str, names: dict[str, str], ours: str = "") -> tuple[Rule, ...]:
    """What ViT and the encoder of MAE have in common; `ours` is before our names."""
    return (
        *patch_embed(
            f"{prefix}embeddings.patch_embeddings.projection",
            model.patch_size,
            f"{ours}patch_embed",
        ),
        rule(f"{prefix}embeddings.cls_token", f"{ours}cls_token", layout=CLASS_TOKEN),
        *_blocks(f"{prefix}{names['']}", f"{ours}blocks_{{i}}", names),
        *norm(f"{prefix}layernorm", f"{ours}norm"),
    )


def _blocks(theirs: str, ours: str, names: dict[str, str]) -> tuple[Rule, ...]:
    denses = [dense(f"{theirs}.{names[part]}", f"{ours}/{part}") for part in names if part]
    return (
        *norm(f"{theirs}.layernorm_before", f"{ours}/norm1"),
        *norm(f"{theirs}.layernorm_after", f"{ours}/norm2"),
        *(entry for pair in denses for entry in pair),
    )


def mae(model: nn.Module, decoder: str, names: dict[str, str]) -> tuple[Rule, ...]:
    """`ViTMAEForPreTraining`; `decoder` is what its blocks are called."""
    return (
        *_body(model, "vit.", names, "encoder/"),
        fixed_positions("vit.embeddings.position_embeddings", "encoder"),
        fixed_positions("decoder.decoder_pos_embed", "decoder"),
        *dense("decoder.decoder_embed", "decoder/embed"),
        rule("decoder.mask_token", "decoder/mask_token", layout=CLASS_TOKEN),
        *_blocks(f"decoder.{decoder}.{{i}}", "decoder/blocks_{i}", names),
        *norm("decoder.decoder_norm", "decoder/norm"),
        *dense("decoder.decoder_pred", "decoder/head"),
    )


def mae_encoder(model: nn.Module, prefix: str, names: dict[str, str]) -> tuple[Rule, ...]:
    """The encoder of `ViTMAEForPreTraining`, or `ViTMAEModel`, as a ViT."""
    return headless(vit(model, prefix, names))


def resnet(model: nn.Module, prefix: str) -> tuple[Rule, ...]:
    """`ResNetModel` or `ResNetForImageClassification`."""

    def layer(theirs: str, conv_name: str, norm_name: str) -> tuple[Rule, ...]:
        return (
            *conv(f"{prefix}{theirs}.convolution", conv_name),
            *batch_norm(f"{prefix}{theirs}.normalization", norm_name),
        )

    count = 3 if model.block == "bottleneck" else 2
    theirs, ours = "encoder.stages.{i}.layers.{j}", "stages_{i}_{j}"
    layers = [
        layer(f"{theirs}.layer.{k}", f"{ours}/conv{k + 1}", f"{ours}/norm{k + 1}")
        for k in range(count)
    ]
    return (
        *layer("embedder.embedder", "stem_conv", "stem_norm"),
        *(entry for rules in layers for entry in rules),
        *layer(f"{theirs}.shortcut", f"{ours}/shortcut_conv", f"{ours}/shortcut_norm"),
        *dense("classifier.1", "head"),
    )


def detr(model: nn.Module, *, file: bool, own_backbone: bool) -> tuple[Rule, ...]:
    """`DetrForObjectDetection`, or `DetrForSegmentation` around it if the model has masks."""
    outer = "detr." if model.masks else ""
    inner = f"{outer}model."
    body = f"{inner}backbone.{'conv_encoder.' if file else ''}model."
    if not own_backbone:
        backbone = fair.backbone(model, body)
    elif type(model.make_body()).__name__ == "ResNet":
        backbone = within(resnet(model.make_body(), ""), body, "body")
    else:
        backbone = ()

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
        *fair.box_head(f"{outer}bbox_predictor"),
        *(fair.mask_head() if file else _state_mask_head()),
    )


def _state_mask_head() -> tuple[Rule, ...]:
    """`mask_head` and `bbox_attention` of a `state_dict` of transformers 5."""
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


_POOLER = {"*pooler.dense.*": "the pooler; a model with representation_dim has it"}

_EPSILON = {"norm_epsilon": 1e-12}  # the default of their ViT and MAE

_ENCODER = {prefix: reasons(f"{prefix}layernorm.*", "decoder.*") for prefix in ("vit.", "")}

MAPS = {
    "ViT": (
        *(
            NameMap("huggingface", partial(vit, prefix=prefix, names=names), _POOLER, _EPSILON)
            for names in (_FILE, _STATE)
            for prefix in ("vit.", "")
        ),
        *(
            NameMap(
                "huggingface",
                partial(mae_encoder, prefix=prefix, names=names),
                _ENCODER[prefix],
                _EPSILON,
                implied,
            )
            for names in (_FILE, _STATE)
            for prefix in ("vit.", "")
        ),
    ),
    # Files of transformers 4, of 5, and a state dict of 5.
    "MAE": tuple(
        NameMap("huggingface", partial(mae, decoder=decoder, names=names), fields=_EPSILON)
        for decoder, names in (
            ("decoder_layers", _FILE),
            ("decoder_encoder.layer", _FILE),
            ("decoder_layers", _STATE),
        )
    ),
    "ResNet": tuple(
        NameMap("huggingface", partial(resnet, prefix=prefix), BATCH_COUNTERS)
        for prefix in ("resnet.", "")
    ),
    "Detr": tuple(
        NameMap("huggingface", partial(detr, file=file, own_backbone=own_backbone), BATCH_COUNTERS)
        for file in (True, False)
        for own_backbone in (False, True)
    ),
}
