"""Goldens of MobileNetV3, made by timm and torchvision."""

from functools import partial

import timm
import torch
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.mobilenetv3 import MobileNetV3
from torch import nn
from torchvision.models import mobilenetv3
from torchvision.models.detection.backbone_utils import _mobilenet_extractor

from peers.draws import images, randomise, save

# Of each block: kernel, features inside, features of the output, stride, squeeze, hard-swish.
TINY = (
    (3, 8, 8, 1, True, False),
    (3, 24, 16, 2, False, False),
    (5, 32, 16, 1, True, True),
    (5, 72, 24, 2, True, True),
)
NANO = (
    (3, 16, 16, 1, False, False),
    (3, 48, 24, 2, False, False),
    (5, 72, 40, 2, True, False),
    (3, 120, 40, 1, False, True),
    (5, 160, 64, 2, True, True),
    (5, 256, 64, 1, True, True),
)


def goldens() -> None:
    """Both peers at an odd image size; torchvision's with the maps of its detectors as well."""
    fields = {
        "stem_dim": 8,
        "kernel_sizes": [row[0] for row in TINY],
        "expanded_dims": [row[1] for row in TINY],
        "block_dims": [row[2] for row in TINY],
        "strides": [row[3] for row in TINY],
        "squeeze_blocks": [i for i, row in enumerate(TINY) if row[4]],
        "num_relu_blocks": 2,
        "last_dim": 144,
        "hidden_dim": 16,
        "num_classes": 5,
    }
    x = images(33, 26)
    model = randomise(timm_model(TINY, 8, 16, 5))
    last = model.forward_features(x).permute(0, 2, 3, 1)
    case = "mobilenetv3_timm"
    save(case, "mobilenetv3_nano", fields, model, x, source="timm", feature_maps=last)

    model = randomise(torchvision_model(TINY, 8, 16, 5))
    weights = model.state_dict()
    body = _mobilenet_extractor(model, True, 4).body
    with torch.no_grad():
        maps = [y.permute(0, 2, 3, 1) for y in body(x).values()]
    save(
        "mobilenetv3_torchvision",
        "mobilenetv3_nano",
        {**fields, "norm_epsilon": 1e-3},
        model,
        x,
        weights,
        source="torchvision",
        feature_maps=maps[-1],
        **{f"detector/{i}": y for i, y in enumerate(maps)},
    )


def timm_model(rows: tuple, stem_dim: int, hidden_dim: int, num_classes: int = 1000) -> nn.Module:
    """timm's class with the blocks of a table; blocks with equally many features are one stage."""
    stages: list[list[str]] = []
    before = stem_dim
    for kernel, inside, dim, stride, squeeze, hard_swish in rows:
        kind = "ir" if inside != before else "ds"
        block = f"{kind}_r1_k{kernel}_s{stride}_e{inside / before}_c{dim}"
        block += "_se0.25" * squeeze + "_nre" * (not hard_swish)
        if not stages or dim != before:
            stages.append([])
        stages[-1].append(block)
        before = dim
    squeeze = {"gate_layer": "hard_sigmoid", "force_act_layer": nn.ReLU}
    return MobileNetV3(
        decode_arch_def([*stages, [f"cn_r1_k1_s1_c{6 * before}"]]),
        num_classes,
        stem_size=stem_dim,
        num_features=hidden_dim,
        act_layer=nn.Hardswish,
        norm_layer=nn.BatchNorm2d,
        se_layer=partial(SqueezeExcite, rd_round_fn=round_channels, **squeeze),
        round_chs_fn=round_channels,
    )


def torchvision_model(rows: tuple, stem_dim: int, hidden_dim: int, num_classes: int) -> nn.Module:
    """torchvision's class with the blocks of a table."""
    settings, before = [], stem_dim
    for kernel, inside, dim, stride, squeeze, hard_swish in rows:
        activation = "HS" if hard_swish else "RE"
        settings.append(
            mobilenetv3.InvertedResidualConfig(
                before, kernel, inside, dim, squeeze, activation, stride, 1, 1.0
            )
        )
        before = dim
    return mobilenetv3.MobileNetV3(settings, hidden_dim, num_classes)


def models() -> dict[str, nn.Module]:
    """The peer's model for each of our names; their parameters are counted."""
    names = ("mobilenetv3_small_100", "mobilenetv3_large_100")
    return {
        **{name: timm.create_model(name) for name in names},
        "mobilenetv3_nano": timm_model(NANO, 16, 256),
    }
