"""A golden of Darknet-53, made by timm; `yolo_darknet` has those of darknet's own program."""

import dataclasses

import timm
import torch
from timm.models.cspnet import CspNet, model_cfgs

from peers.draws import images, randomise, save

BLOCKS = (1, 2, 1)
DIMS = (8, 12, 16)


def goldens() -> None:
    """A narrow network of three stages, with an odd image size."""
    settings = model_cfgs["darknet53"]
    stages = dataclasses.replace(settings.stages, depth=BLOCKS, out_chs=DIMS, stride=2)
    stem = dataclasses.replace(settings.stem, out_chs=8)
    model = randomise(
        CspNet(dataclasses.replace(settings, stem=stem, stages=stages), num_classes=5)
    )
    dims = [8]
    for count, dim in zip(BLOCKS, DIMS, strict=True):
        dims += [dim, *[dim // 2, dim] * count]
    fields = {
        "num_convs": [1, *(1 + 2 * count for count in BLOCKS)],
        "conv_dims": dims,
        "conv_sizes": [3, *(size for count in BLOCKS for size in (3, *(1, 3) * count))],
        "negative_slope": 0.01,
        "num_classes": 5,
    }
    x = images(37, 42)
    maps = model.forward_features(x).permute(0, 2, 3, 1)
    save("darknet_timm", "darknet53", fields, model, x, source="timm", feature_maps=maps)


def models() -> dict[str, torch.nn.Module]:
    """timm's models for our names."""
    return {"darknet53": timm.create_model("darknet53")}
