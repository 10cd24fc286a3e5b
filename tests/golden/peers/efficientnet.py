"""Goldens of EfficientNet, made by timm, torchvision and efficientnet_pytorch.

efficientnet_pytorch 0.7.1: ``pip install --no-deps efficientnet-pytorch``.
"""

from functools import partial

import timm
import torch
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import nn
from torchvision.models import efficientnet
from torchvision.ops.misc import Conv2dNormActivation

from peers.draws import images, randomise, save

# Of each stage: blocks, features, kernel, stride, expansion.
TINY = ((1, 8, 3, 1, 1), (2, 16, 3, 2, 3), (2, 16, 5, 2, 2))
NANO = ((1, 16, 3, 1, 1), (2, 24, 3, 2, 4), (1, 40, 3, 2, 4))
FIELDS = ("num_blocks", "stage_dims", "kernel_sizes", "strides", "expansions")


def goldens() -> None:
    """An even height, at which the paddings differ; Lite with TensorFlow's padding and epsilon."""
    fields = {"stem_dim": 8, "last_dim": 24, "num_classes": 5}
    fields |= dict(zip(FIELDS, map(list, zip(*TINY, strict=True)), strict=True))
    x = images(36, 25)
    name = "efficientnet_nano"

    model = randomise(timm_model(TINY, 8, 24, 5))
    save("efficientnet_timm", name, fields, model, x, source="timm", **maps(model, x))

    model = randomise(timm_model(TINY, 8, 24, 5, lite=True))
    lite = {**fields, "squeeze": False, "activation": "relu6"}
    more = {"padding": "same", "norm_epsilon": 1e-3}
    case = "efficientnet_timm_tf"
    save(case, name, {**lite, **more}, model, x, source="timm", **maps(model, x))

    model = randomise(torchvision_model(5))
    save("efficientnet_torchvision", name, fields, model, x, source="torchvision")

    model = randomise(pytorch_model(5))
    case = "efficientnet_pytorch"
    save(case, name, {**fields, **more}, model, x, source="efficientnet_pytorch")


def maps(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The last stage's map, as detectors use it: before the last convolution."""
    with torch.no_grad():
        found = model.forward_intermediates(x, intermediates_only=True)
    return {"feature_maps": found[-1].permute(0, 2, 3, 1)}


def timm_model(
    rows: tuple, stem_dim: int, last_dim: int, num_classes: int = 1000, *, lite: bool = False
) -> EfficientNet:
    """timm's class with the stages of a table."""
    stages = []
    for depth, dim, kernel, stride, expansion in rows:
        kind = "ds" if expansion == 1 else "ir"
        block = f"{kind}_r{depth}_k{kernel}_s{stride}_e{expansion}_c{dim}"
        stages.append([block + "_se0.25" * (not lite)])
    options = {"act_layer": nn.SiLU, "norm_layer": nn.BatchNorm2d}
    if lite:
        norm = partial(nn.BatchNorm2d, eps=1e-3)
        options = {"act_layer": nn.ReLU6, "norm_layer": norm, "pad_type": "same"}
    return EfficientNet(
        decode_arch_def(stages), num_classes, last_dim, stem_size=stem_dim, **options
    )


def torchvision_model(num_classes: int) -> nn.Module:
    """torchvision's class with the stages of `TINY`, after its first convolution to 8 features."""
    settings, before = [], 8
    for depth, dim, kernel, stride, expansion in TINY:
        row = efficientnet.MBConvConfig(expansion, kernel, stride, before, dim, depth)
        settings.append(row)
        before = dim
    model = efficientnet.EfficientNet(settings, 0.2, num_classes=num_classes, last_channel=24)
    assert isinstance(model.features[0], Conv2dNormActivation)
    return model


def pytorch_model(num_classes: int) -> nn.Module:
    """efficientnet_pytorch's class with the stages of `TINY`."""
    from efficientnet_pytorch import EfficientNet
    from efficientnet_pytorch.utils import BlockArgs, GlobalParams

    blocks, before = [], 8
    for depth, dim, kernel, stride, expansion in TINY:
        blocks.append(BlockArgs(depth, kernel, [stride], expansion, before, dim, 0.25, True))
        before = dim
    sizes = GlobalParams(
        width_coefficient=0.25,
        depth_coefficient=1.0,
        image_size=None,
        dropout_rate=0.2,
        num_classes=num_classes,
        batch_norm_momentum=0.99,
        batch_norm_epsilon=1e-3,
        drop_connect_rate=0.0,
        depth_divisor=8,
        min_depth=8,
        include_top=True,
    )
    # The width is that of the first convolution, 32 / 4, and of the last; blocks are given in full.
    wide = [
        block._replace(
            input_filters=4 * block.input_filters, output_filters=4 * block.output_filters
        )
        for block in blocks
    ]
    model = EfficientNet(wide, sizes)
    model._conv_head = type(model._conv_head)(before, 24, 1, bias=False)
    model._bn1 = nn.BatchNorm2d(24, eps=1e-3)
    model._fc = nn.Linear(24, num_classes)
    return model


def models() -> dict[str, nn.Module]:
    """timm's model for each of our names; their parameters are counted."""
    names = (
        *(f"efficientnet_b{i}" for i in range(8)),
        *(f"efficientnet_lite{i}" for i in range(5)),
    )
    return {
        **{name: timm.create_model(name) for name in names},
        "efficientnet_nano": timm_model(NANO, 16, 256),
    }


def pad_to(x: torch.Tensor, side: int) -> torch.Tensor:
    """Images, NCHW, with zeros below and on the right."""
    return nn.functional.pad(x, (0, side - x.shape[-1], 0, side - x.shape[-2]))
