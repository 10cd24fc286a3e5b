"""Goldens of MLP-Mixer, made by timm."""

import timm
import torch
from timm.models.mlp_mixer import MlpMixer

from peers.draws import images, randomise, save

NAMES = (
    *("mixer_s32_224", "mixer_s16_224", "mixer_b32_224", "mixer_b16_224"),
    *("mixer_l32_224", "mixer_l16_224"),
)


def goldens() -> None:
    """Writes the golden of a model with two blocks."""
    model = MlpMixer(img_size=16, patch_size=4, num_blocks=2, embed_dim=16, num_classes=5)
    fields = {"hidden_dim": 16, "num_layers": 2, "patch_size": 4, "num_classes": 5}
    fields |= {"tokens_mlp_dim": 8, "channels_mlp_dim": 64, "image_size": 16}
    x = images(16, 16)
    tokens = randomise(model).forward_features(x)
    given = {"source": "timm", "tolerance": 1e-5}
    save("mlp_mixer_timm", "mixer_nano_patch4_32", fields, model, x, **given, tokens=tokens)


def models() -> dict[str, torch.nn.Module]:
    """The peer's model for each of our names; their parameters are counted."""
    return {
        **{name: timm.create_model(name) for name in NAMES},
        "mixer_h14_224": MlpMixer(patch_size=14, num_blocks=32, embed_dim=1280),
        "mixer_nano_patch4_32": MlpMixer(img_size=32, patch_size=4, embed_dim=64, num_blocks=4),
    }
