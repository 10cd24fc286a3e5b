"""Goldens of DLA, made by timm."""

import timm
import torch
from timm.models.dla import DLA, DlaBasic
from torch import nn

from peers.draws import images, randomise, save

TINY = (4, 4, 6, 6, 8, 10)


def goldens() -> None:
    """Trees of depth 1, 2 and 3; in one the number of features stays."""
    depths = (1, 2, 1, 1, 3, 1)
    model = randomise(DLA(depths, TINY, num_classes=5, block=DlaBasic))
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight.mul_(2)  # outputs near 1
    fields = {"depths": depths, "level_dims": TINY, "num_classes": 5}
    x = images(32, 64)
    maps = model.forward_features(x).permute(0, 2, 3, 1)
    save("dla_timm", "dla_nano", fields, model, x, source="timm", feature_maps=maps)


def nano() -> DLA:
    """Our nano: the first four levels of a DLA."""
    model = DLA((1, 1, 1, 2, 1, 1), (16, 32, 64, 96, 1, 1), block=DlaBasic)
    model.level4 = model.level5 = nn.Identity()
    model.fc = nn.Conv2d(96, 1000, 1)
    return model


def models() -> dict[str, nn.Module]:
    """timm's models for our names."""
    return {"dla34": timm.create_model("dla34"), "dla_nano": nano()}
