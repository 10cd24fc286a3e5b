"""ViT: see `model`."""

from functools import partial
from typing import Any

from zoo.family import Family, Variant
from zoo.models.classification.vit.model import ViT
from zoo.models.classification.vit.names import NAMES
from zoo.models.inputs import images
from zoo.types import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

# hidden_dim, num_layers, num_heads, mlp_dim. Base to huge: arXiv 2010.11929, table 1; tiny and
# small: DeiT, arXiv 2012.12877, table 1; giant and gigantic: arXiv 2106.04560, table 2.
_SIZES = {
    "nano": (64, 4, 4, 256),  # from no paper: for tests, demos and very small images
    "tiny": (192, 12, 3, 768),
    "small": (384, 12, 6, 1536),
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "huge": (1280, 32, 16, 5120),
    "giant": (1408, 40, 16, 6144),
    "gigantic": (1664, 48, 16, 8192),
}


def _variant(
    size: str,
    patch_size: int,
    image_size: int,
    *,
    imagenet: bool = False,
    paper: str | None = None,
    parity: str | None = None,
    **fields: object,
) -> Variant:
    """A variant; `imagenet` says whether its paper used ImageNet's mean and std for pixels."""
    hidden_dim, num_layers, num_heads, mlp_dim = _SIZES[size]
    sizes = {
        "image_size": image_size,
        "patch_size": patch_size,
        "hidden_dim": hidden_dim,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "mlp_dim": mlp_dim,
    }
    half = (0.5, 0.5, 0.5)
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if imagenet else (half, half)
    crop_fraction = 0.9 if image_size == 224 else 1.0  # timm's
    preprocessing = Preprocessing((image_size, image_size), mean, std, "bicubic", crop_fraction)
    return Variant({**sizes, **fields}, preprocessing, paper=paper, parity=parity)


_gap = partial(_variant, pool="mean", class_token=False)
_deit = partial(_variant, paper="2012.12877")
_ijepa = partial(_gap, imagenet=True, paper="2301.08243")

_VARIANTS = {
    "vit_nano_patch4_32": _variant("nano", 4, 32),
    "vit_tiny_patch16_224": _deit("tiny", 16, 224, parity="5e-7"),
    "vit_tiny_patch16_384": _deit("tiny", 16, 384),
    "vit_small_patch8_224": _variant("small", 8, 224, imagenet=True, paper="2104.14294"),  # DINO
    "vit_small_patch16_224": _deit("small", 16, 224),
    "vit_small_patch16_384": _deit("small", 16, 384),
    "vit_small_patch32_224": _deit("small", 32, 224),
    "vit_small_patch32_384": _deit("small", 32, 384),
    "vit_base_patch8_224": _variant("base", 8, 224),
    "vit_base_patch16_224": _variant("base", 16, 224, parity="1e-6; at 384 px 1e-6"),
    "vit_base_patch16_384": _variant("base", 16, 384),
    "vit_base_patch32_224": _variant("base", 32, 224),
    "vit_base_patch32_384": _variant("base", 32, 384),
    "vit_large_patch14_224": _variant("large", 14, 224),
    "vit_large_patch16_224": _variant("large", 16, 224),
    "vit_large_patch16_384": _variant("large", 16, 384, parity="2e-6 at 224 px"),
    "vit_large_patch32_224": _variant("large", 32, 224),
    "vit_large_patch32_384": _variant("large", 32, 384),
    "vit_huge_patch14_224": _variant("huge", 14, 224),
    "vit_giant_patch14_224": _variant("giant", 14, 224, paper="2106.04560"),
    "vit_gigantic_patch14_224": _variant("gigantic", 14, 224, paper="2106.04560"),
    # Mean pooling and no class token; timm's base has 16 heads here.
    "vit_base_patch16_gap_224": _gap("base", 16, 224, num_heads=16),
    "vit_huge_patch14_gap_224": _ijepa("huge", 14, 224),
    "vit_huge_patch16_gap_448": _ijepa("huge", 16, 448),
    "vit_giant_patch16_gap_224": _ijepa("giant", 16, 224),
}


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The embedding, then each block."""
    embedding = ("patch_embed", "pos_embed", "cls_token", "cls_pos_embed")
    return (embedding, *((f"blocks_{i}",) for i in range(model.num_layers)))


FAMILY = Family(
    title="ViT",
    summary="tiny to gigantic, patches of 8 to 32",
    module=ViT,
    task="classification",
    paper="2010.11929",
    reference="timm, google-research/big_vision",
    inputs=images,
    names=NAMES,
    layers=_layers,
    head=("params/head/", "batch_stats/head_norm/"),
    variants=_VARIANTS,
)
