"""Goldens of ResNet, made by timm, transformers and detectron2."""

import timm
import torch
import transformers
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops.misc import FrozenBatchNorm2d

from peers.checkouts import detectron2_backbones
from peers.draws import images, randomise, save, write

NAMES = ("resnet18", "resnet34", "resnet50", "resnet50_gn", "resnet101", "resnet152")
NAMES += ("resnext50_32x4d", "resnext101_32x8d")


def goldens() -> None:
    """Goldens of all three peers."""
    timm_and_huggingface()
    torch.manual_seed(0)
    frozen()
    detectron2_resnets()


def timm_and_huggingface() -> None:
    """Goldens of both blocks and norms, at an odd image size; narrow, except timm's fixed stem."""
    kinds = {"basic": BasicBlock, "bottleneck": Bottleneck}
    for kind, norm in (("basic", "batch"), ("bottleneck", "batch"), ("basic", "group")):
        narrow = norm == "batch"
        dims, norm_layer = ((4, 8, 8, 8), "batchnorm2d") if narrow else ((32,) * 4, "groupnorm")
        depths = (2, 1, 1, 1) if narrow else (1, 1, 1, 1)
        model = ResNet(kinds[kind], depths, channels=dims, norm_layer=norm_layer, num_classes=5)
        fields = {"block": kind, "norm": norm, "num_blocks": depths, "stage_dims": dims}
        x = images(33, 24)
        last = randomise(model).forward_features(x).permute(0, 2, 3, 1)
        fields["num_classes"] = 5
        case = f"resnet_timm_{kind}_{norm}"
        save(case, "resnet_nano", fields, model, x, source="timm", feature_maps=last)

    for kind, dims in (("basic", [4, 8]), ("bottleneck", [16, 32])):
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=dims, depths=[1, 2], layer_type=kind, num_labels=5
        )
        model = randomise(transformers.ResNetForImageClassification(config))
        fields = {"block": kind, "num_blocks": [1, 2], "stage_dims": [4, 8], "stem_dim": 8}
        fields["num_classes"] = 5
        case = f"resnet_huggingface_{kind}"
        save(case, "resnet_nano", fields, model, images(17, 16), source="huggingface")


def frozen() -> None:
    """A ResNeXt with torchvision's frozen norms, without an epsilon, as some of its detectors have.

    The variances are so small that an epsilon of 1e-5 would be seen.
    """
    groups = {"cardinality": 2, "base_width": 48}
    dims, depths = (8, 8, 16, 16), (1, 2, 1, 1)

    def norm(features: int, **_: object) -> torch.nn.Module:
        return FrozenBatchNorm2d(features, eps=0.0)

    model = randomise(
        ResNet(Bottleneck, depths, channels=dims, norm_layer=norm, num_classes=5, **groups)
    )
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.running_var /= 64
                module.weight /= 8
    fields = {"block": "bottleneck", "num_blocks": depths, "stage_dims": dims, "num_classes": 5}
    fields |= {"norm": "frozen", "norm_epsilon": 0.0, "num_groups": 2, "group_dim": 48}
    x = images(32, 25)
    last = model.forward_features(x).permute(0, 2, 3, 1)
    case = "resnet_timm_frozen_groups"
    save(case, "resnet_nano", fields, model, x, source="timm", feature_maps=last)


def detectron2_resnets() -> None:
    """A ResNet of the paper, with its stride in the 1 x 1 convolutions, and a ResNeXt.

    Both have frozen norms, and images with the channels blue, green and red.
    """
    detectron2_backbones()
    from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock
    from detectron2.modeling.backbone.resnet import ResNet as Detectron2ResNet

    dims, depths = (4, 8), (2, 2)
    for case, stride_in_1x1, groups, group_dim in (("msra", True, 1, 64), ("groups", False, 2, 32)):
        stages, in_dim = [], 8
        for i, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            stages.append(
                Detectron2ResNet.make_stage(
                    BottleneckBlock,
                    depth,
                    in_channels=in_dim,
                    out_channels=4 * dim,
                    bottleneck_channels=dim,
                    stride_per_block=[1 + (i > 0)] + [1] * (depth - 1),
                    stride_in_1x1=stride_in_1x1,
                    num_groups=groups,
                    norm="FrozenBN",
                )
            )
            in_dim = 4 * dim
        outputs = ["res3", "linear"]
        stem = BasicStem(3, 8, "FrozenBN")
        model = randomise(Detectron2ResNet(stem, stages, num_classes=5, out_features=outputs))
        x = images(33, 24)
        with torch.no_grad():
            found = model(x.flip(1))
        fields = {"block": "bottleneck", "num_blocks": depths, "stage_dims": dims, "stem_dim": 8}
        fields |= {"norm": "frozen", "stride_in_1x1": stride_in_1x1, "num_classes": 5}
        fields |= {"num_groups": groups, "group_dim": group_dim}
        write(
            f"resnet_detectron2_{case}",
            {"name": "resnet_nano", "fields": fields, "source": "detectron2"},
            {"images": x.permute(0, 2, 3, 1)},
            {"logits": found["linear"], "feature_maps": found["res3"].permute(0, 2, 3, 1)},
            model.state_dict(),
        )


def models() -> dict[str, torch.nn.Module]:
    """The peer's model for each of our names; their parameters are counted."""
    nano = ResNet(BasicBlock, (1, 1, 1, 1), channels=(16, 32, 64, 128))
    return {**{name: timm.create_model(name) for name in NAMES}, "resnet_nano": nano}
