"""Masked autoencoder: see `model`."""

import math
from typing import Any

import jax
from jaxtyping import Array, Bool, Float

from zoo.family import Family, Size, Variant
from zoo.models.inputs import images
from zoo.models.pretraining.mae.loss import MaeLoss
from zoo.models.pretraining.mae.model import MAE
from zoo.models.pretraining.mae.names import NAMES
from zoo.ops.masks import random_visible
from zoo.ops.patches import grid_size
from zoo.types import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

# hidden_dim, num_layers, num_heads, mlp_dim: as in ViT. The decoder is the paper's default.
_SIZES = {
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "huge": (1280, 32, 16, 5120),
}


def _variant(size: str, patch_size: int, parity: str | None = None) -> Variant:
    hidden_dim, num_layers, num_heads, mlp_dim = _SIZES[size]
    fields = {
        "patch_size": patch_size,
        "hidden_dim": hidden_dim,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "mlp_dim": mlp_dim,
    }
    preprocessing = Preprocessing((224, 224), IMAGENET_MEAN, IMAGENET_STD, "bicubic", 0.875)
    return Variant(fields, preprocessing, parity=parity)


def _nano() -> Variant:
    """From no paper: for tests, demos and very small images; the encoder is ViT's nano."""
    fields = {
        "image_size": 32,
        "patch_size": 4,
        "hidden_dim": 64,
        "num_layers": 4,
        "num_heads": 4,
        "mlp_dim": 256,
        "decoder_hidden_dim": 32,
        "decoder_num_layers": 2,
        "decoder_num_heads": 4,
        "decoder_mlp_dim": 128,
    }
    half = (0.5, 0.5, 0.5)
    return Variant(fields, Preprocessing((32, 32), half, half, "bicubic", 1.0))


_VARIANTS = {
    "mae_vit_nano_patch4": _nano(),
    "mae_vit_base_patch16": _variant(
        "base", 16, "3e-6 of Hugging Face's predictions for the same mask"
    ),
    "mae_vit_large_patch16": _variant("large", 16),
    "mae_vit_huge_patch14": _variant("huge", 14),
}


def _inputs(
    model: Any, size: Size | None, count: int, key: jax.Array
) -> tuple[Float[Array, "b h w 3"], Bool[Array, "b n"]]:
    """Images, and for each a mask with the model's number of visible patches."""
    image_key, mask_key = jax.random.split(key)
    (x,) = images(model, size, count, image_key)
    n = math.prod(grid_size(x.shape[1:3], model.patch_size))
    keys = jax.random.split(mask_key, count)
    return x, jax.vmap(lambda key: random_visible(key, n, model.num_visible(n)))(keys)


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The encoder's embedding and blocks; the decoder counts as the head."""
    embedding = ("encoder/patch_embed", "encoder/cls_token")
    return (embedding, *((f"encoder/blocks_{i}",) for i in range(model.num_layers)))


FAMILY = Family(
    title="MAE",
    summary="B, L, H",
    module=MAE,
    task="pretraining",
    paper="2111.06377",
    reference="facebookresearch/mae",
    inputs=_inputs,
    names=NAMES,
    loss=MaeLoss,
    layers=_layers,
    variants=_VARIANTS,
)
