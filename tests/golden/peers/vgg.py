"""Goldens of VGG, made by timm and torchvision."""

import timm
import torch
from timm.models import vgg
from torch import nn
from torchvision.models import vgg as torchvision_vgg

from peers.draws import images, randomise, save

NANO = [16, "M", 32, "M", 64, 64, "M", 96, 96, "M", 96, 96, "M"]


def goldens() -> None:
    """timm's without norms for images smaller and larger than the map; torchvision's with norms."""
    fields = {
        "num_convs": [1, 1, 2, 2, 2],
        "stage_dims": [4, 6, 8, 12, 12],
        "hidden_dim": 16,
        "num_classes": 5,
        "norm": None,
    }
    tiny = [4, "M", 6, "M", 8, 8, "M", 12, 12, "M", 12, 12, "M"]
    for case, size, side in (("small", (66, 97), 3), ("large", (97, 130), 2)):
        model = scale(randomise(timm_model(tiny, 16, side, 5)), size)
        x = images(*size)
        last = model.forward_features(x).permute(0, 2, 3, 1)
        ours = {**fields, "map_size": side}
        save(f"vgg_timm_{case}", "vgg_nano", ours, model, x, source="timm", feature_maps=last)

    model = torchvision_vgg.VGG(torchvision_vgg.make_layers(tiny, batch_norm=True), 5)
    model.avgpool = nn.AdaptiveAvgPool2d((2, 2))
    model.classifier[0] = nn.Linear(12 * 4, 16)
    model.classifier[3], model.classifier[6] = nn.Linear(16, 16), nn.Linear(16, 5)
    model = randomise(model)
    x = images(64, 70)
    ours = {**fields, "map_size": 2, "norm": "batch"}
    last = model.features(x).permute(0, 2, 3, 1)
    save(
        "vgg_torchvision_norm", "vgg_nano", ours, model, x, source="torchvision", feature_maps=last
    )


@torch.no_grad()
def scale(model: nn.Module, size: tuple[int, int]) -> nn.Module:
    """Scales the convolutions so that features neither vanish nor grow."""
    x = torch.randn(2, 3, *size)
    for layer in model.features:
        y = layer(x)
        if isinstance(layer, nn.Conv2d):
            layer.weight.div_(y.std())
            layer.bias.div_(y.std())
        x = layer(x)
    return model


def timm_model(rows: list, hidden: int, side: int, num_classes: int = 1000, norm=None) -> nn.Module:
    """timm's class with the features of a list and another head."""
    model = vgg.VGG(rows, num_classes, norm_layer=norm)
    model.pre_logits = vgg.ConvMlp(model.num_features, hidden, side)
    model.head = vgg.ClassifierHead(hidden, num_classes)
    return model


def models() -> dict[str, nn.Module]:
    """The peer's model for each of our names; their parameters are counted."""
    names = [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")]
    found = {name: timm.create_model(name) for name in names}
    return {**found, "vgg_nano": timm_model(NANO, 128, 2, norm=nn.BatchNorm2d)}
