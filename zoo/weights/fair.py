"""FAIR's own names: DETR (facebookresearch/detr) and MAE (facebookresearch/mae).

DETR as in `detr-r50-e632da11.pth` and its kin: class k of the head is COCO's category id k; the
last is "no object". Of MAE, ``mae_visualize_vit_*.pth`` hold encoder and decoder,
``mae_pretrain_vit_*.pth`` the encoder alone: a MAE takes the first, a ViT both. Fine-tuned and
linearly probed ViTs have timm's names, with a BatchNorm before the head in the latter.
"""

from flax import linen as nn

from zoo.weights import timm
from zoo.weights.mae import fixed_positions, headless, implied, reasons
from zoo.weights.maps import (
    BATCH_COUNTERS,
    CLASS_TOKEN,
    POINTWISE,
    SAME,
    NameMap,
    Rule,
    biased_conv,
    dense,
    fused_attention,
    norm,
    patch_embed,
    rule,
    within,
)


def detr(model: nn.Module) -> tuple[Rule, ...]:
    """`DETR`, or `DETRsegm` around it if the model has masks."""
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
        *backbone(model, f"{prefix}backbone.0.body."),
        rule(f"{prefix}input_proj.weight", "input_proj/kernel", layout=POINTWISE),
        rule(f"{prefix}input_proj.bias", "input_proj/bias"),
        rule(f"{prefix}query_embed.weight", "query_embed"),
        *layers,
        *norm(f"{prefix}transformer.encoder.norm", "encoder_norm"),
        *norm(f"{prefix}transformer.decoder.norm", "decoder_norm"),
        *dense(f"{prefix}class_embed", "head"),
        *box_head(f"{prefix}bbox_embed"),
        *mask_head(),
    )


def backbone(model: nn.Module, theirs: str) -> tuple[Rule, ...]:
    """DETR's backbone under timm's names, which for a ResNet are torchvision's as well."""
    body = model.make_body()
    return within(timm.MAPS[type(body).__name__][0].rules(body), theirs, "body")


def box_head(theirs: str) -> tuple[Rule, ...]:
    """The three layers to a box."""
    layers = [dense(f"{theirs}.layers.{k}", f"box_head/fc{k + 1}") for k in range(3)]
    return tuple(entry for rules in layers for entry in rules)


def mask_head() -> tuple[Rule, ...]:
    """The head for masks, with the names that Hugging Face's files have as well."""
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


def vit(model: nn.Module) -> tuple[Rule, ...]:
    """`VisionTransformer` after fine-tuning or linear probing."""
    if not model.head_batch_norm:
        return timm.vit(model)
    body = tuple(entry for entry in timm.vit(model) if not entry.theirs.startswith("head."))
    return (
        *body,
        Rule("head.0.running_mean", ("batch_stats/head_norm/mean",), SAME),
        Rule("head.0.running_var", ("batch_stats/head_norm/var",), SAME),
        *dense("head.1", "head"),
    )


def encoder(model: nn.Module) -> tuple[Rule, ...]:
    """The encoder of a `MaskedAutoencoderViT` as a ViT."""
    return headless(timm.vit(model))


def mae(model: nn.Module) -> tuple[Rule, ...]:
    """`MaskedAutoencoderViT`."""
    return (
        *patch_embed("patch_embed.proj", model.patch_size, "encoder/patch_embed"),
        rule("cls_token", "encoder/cls_token", layout=CLASS_TOKEN),
        fixed_positions("pos_embed", "encoder"),
        *timm.blocks("blocks", "encoder/blocks"),
        *norm("norm", "encoder/norm"),
        *dense("decoder_embed", "decoder/embed"),
        rule("mask_token", "decoder/mask_token", layout=CLASS_TOKEN),
        fixed_positions("decoder_pos_embed", "decoder"),
        *timm.blocks("decoder_blocks", "decoder/blocks"),
        *norm("decoder_norm", "decoder/norm"),
        *dense("decoder_pred", "decoder/head"),
    )


MAPS = {
    "Detr": (NameMap("fair", detr, BATCH_COUNTERS),),
    "ViT": (
        NameMap("fair", vit, BATCH_COUNTERS),
        NameMap(
            "fair",
            encoder,
            reasons("norm.*", "decoder_*", "mask_token"),
            implied=implied,
        ),
    ),
    "MAE": (NameMap("fair", mae),),
}
