"""MLP-Mixer: see `model`."""

from typing import Any

from zoo.family import Family, Variant
from zoo.models.classification.mlp_mixer.model import MlpMixer
from zoo.models.classification.mlp_mixer.names import NAMES
from zoo.models.inputs import images
from zoo.types import Preprocessing

# hidden_dim, num_layers, tokens_mlp_dim, channels_mlp_dim: arXiv 2105.01601, table 1.
_SIZES = {
    "nano": (64, 4, 32, 256),  # not from the paper: for tests, demos and very small images
    "s": (512, 8, 256, 2048),
    "b": (768, 12, 384, 3072),
    "l": (1024, 24, 512, 4096),
    "h": (1280, 32, 640, 5120),
}


def _variant(size: str, patch_size: int, image_size: int, parity: str | None = None) -> Variant:
    hidden_dim, num_layers, tokens_mlp_dim, channels_mlp_dim = _SIZES[size]
    fields = {
        "image_size": image_size,
        "patch_size": patch_size,
        "hidden_dim": hidden_dim,
        "num_layers": num_layers,
        "tokens_mlp_dim": tokens_mlp_dim,
        "channels_mlp_dim": channels_mlp_dim,
    }
    half = (0.5, 0.5, 0.5)
    preprocessing = Preprocessing((image_size, image_size), half, half, "bicubic", 0.875)
    return Variant(fields, preprocessing, parity=parity)


_VARIANTS = {
    "mixer_nano_patch4_32": _variant("nano", 4, 32),
    "mixer_s32_224": _variant("s", 32, 224),
    "mixer_s16_224": _variant("s", 16, 224),
    "mixer_b32_224": _variant("b", 32, 224),
    "mixer_b16_224": _variant("b", 16, 224, "5e-7"),
    "mixer_l32_224": _variant("l", 32, 224),
    "mixer_l16_224": _variant("l", 16, 224),
    "mixer_h14_224": _variant("h", 14, 224),
}


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The embedding, then each block."""
    return (("patch_embed",), *((f"blocks_{i}",) for i in range(model.num_layers)))


FAMILY = Family(
    title="MLP-Mixer",
    summary="S, B, L, H",
    module=MlpMixer,
    task="classification",
    paper="2105.01601",
    reference="timm, google-research/vision_transformer",
    inputs=images,
    names=NAMES,
    layers=_layers,
    variants=_VARIANTS,
)
