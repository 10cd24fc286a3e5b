"""Names of Hugging Face transformers and FAIR (facebookresearch/mae) for MAE.

``mae_visualize_vit_*.pth`` hold the encoder and the decoder. ``mae_pretrain_vit_*.pth`` hold only
the encoder and are loaded as a ViT.
"""

from collections.abc import Mapping
from functools import partial

from flax import linen as nn

from zoo.family import NameMap, Rule
from zoo.types import Preprocessing
from zoo.weights.blocks import (
    HUGGINGFACE_FILE,
    HUGGINGFACE_STATE,
    huggingface_blocks,
    timm_blocks,
)
from zoo.weights.maps import CLASS_TOKEN, dense, norm, patch_embed, positions, rule


def _positions(theirs: str, part: str) -> Rule:
    """The rule for positions of the encoder or decoder, which the zoo does not train either."""
    ours = (f"fixed/{part}/pos_embed", f"fixed/{part}/cls_pos_embed")
    return Rule(theirs, ours, positions(class_token=True))


def huggingface(model: nn.Module, decoder: str, names: Mapping[str, str]) -> tuple[Rule, ...]:
    """Rules for `ViTMAEForPreTraining`; `decoder` is the name of the decoder's blocks."""
    return (
        *patch_embed(
            "vit.embeddings.patch_embeddings.projection", model.patch_size, "encoder/patch_embed"
        ),
        rule("vit.embeddings.cls_token", "encoder/cls_token", layout=CLASS_TOKEN),
        *huggingface_blocks(f"vit.{names['']}", "encoder/blocks_{i}", names),
        *norm("vit.layernorm", "encoder/norm"),
        _positions("vit.embeddings.position_embeddings", "encoder"),
        _positions("decoder.decoder_pos_embed", "decoder"),
        *dense("decoder.decoder_embed", "decoder/embed"),
        rule("decoder.mask_token", "decoder/mask_token", layout=CLASS_TOKEN),
        *huggingface_blocks(f"decoder.{decoder}.{{i}}", "decoder/blocks_{i}", names),
        *norm("decoder.decoder_norm", "decoder/norm"),
        *dense("decoder.decoder_pred", "decoder/head"),
    )


def fair(model: nn.Module) -> tuple[Rule, ...]:
    """Rules for `MaskedAutoencoderViT`."""
    return (
        *patch_embed("patch_embed.proj", model.patch_size, "encoder/patch_embed"),
        rule("cls_token", "encoder/cls_token", layout=CLASS_TOKEN),
        _positions("pos_embed", "encoder"),
        *timm_blocks("blocks", "encoder/blocks"),
        *norm("norm", "encoder/norm"),
        *dense("decoder_embed", "decoder/embed"),
        rule("mask_token", "decoder/mask_token", layout=CLASS_TOKEN),
        _positions("decoder_pos_embed", "decoder"),
        *timm_blocks("decoder_blocks", "decoder/blocks"),
        *norm("decoder_norm", "decoder/norm"),
        *dense("decoder_pred", "decoder/head"),
    )


_EPSILON = {"norm_epsilon": 1e-12}  # the default of Hugging Face's MAE


def _prepared(model: nn.Module, file: str) -> Preprocessing:
    """As in facebookresearch/mae without fine-tuning; Hugging Face's weights are the same."""
    return Preprocessing((224, 224))


NAMES = (
    # Files of transformers 4, files of 5, and state dicts of 5.
    *(
        NameMap(
            "huggingface",
            partial(huggingface, decoder=decoder, names=names),
            fields=_EPSILON,
            preprocessing=_prepared,
        )
        for decoder, names in (
            ("decoder_layers", HUGGINGFACE_FILE),
            ("decoder_encoder.layer", HUGGINGFACE_FILE),
            ("decoder_layers", HUGGINGFACE_STATE),
        )
    ),
    NameMap("fair", fair, preprocessing=_prepared),
)
