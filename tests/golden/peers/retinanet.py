"""Goldens of RetinaNet, made by torchvision."""

from functools import partial

import torch
import torchvision
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops.misc import FrozenBatchNorm2d

from peers.dense import CLASSES, DECODING, fields, nano_trunk, save, trunk
from peers.faster_rcnn import truth


def goldens() -> None:
    """Version 1 with frozen norms without an epsilon; version 2; each at another size.

    The second one has one size of anchors a level."""
    dim, block = 8, Bottleneck
    backbone = trunk(block, dim, partial(FrozenBatchNorm2d, eps=0.0), coarse_input=False)
    model = RetinaNet(backbone, CLASSES + 1, **DECODING)
    ours = fields(block, dim, norm_epsilon=0.0)
    save("retinanet_torchvision_v1", "retinanet_resnet50_fpn", model, ours, (60, 62), truth())

    dim, block = 32, BasicBlock  # group norm has 32 groups
    sizes = tuple((32 * 2**i,) for i in range(5))
    generator = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
    head = RetinaNetHead(dim, 3, CLASSES + 1, norm_layer=partial(nn.GroupNorm, 32))
    for tower in (head.classification_head, head.regression_head):
        tower.conv = tower.conv[:1]
    head.regression_head._loss_type = "giou"
    backbone = trunk(block, dim, None, coarse_input=True)
    model = RetinaNet(backbone, CLASSES + 1, anchor_generator=generator, head=head, **DECODING)
    ours = fields(block, dim, num_convs=1, backbone_fields={"norm": "batch"})
    ours["anchor_fields"] = {"sizes": sizes, "rounded": True}
    save(
        "retinanet_torchvision_v2",
        "retinanet_resnet50_fpn_v2",
        model,
        ours,
        (62, 50),
        truth(),
    )


def models() -> dict[str, torch.nn.Module]:
    """torchvision's models for our names, without the column of the background."""
    build = torchvision.models.detection
    options = {"weights": None, "weights_backbone": None, "num_classes": 90}
    return {
        "retinanet_resnet50_fpn": build.retinanet_resnet50_fpn(**options),
        "retinanet_resnet50_fpn_v2": build.retinanet_resnet50_fpn_v2(**options),
        "retinanet_nano": nano(),
    }


def nano() -> RetinaNet:
    """A model with the sizes of our nano."""
    sizes = tuple(tuple(side * 2 ** (k / 3) for k in range(3)) for side in (9, 16))
    head = RetinaNetHead(64, 9, 90, norm_layer=partial(nn.GroupNorm, 32))
    for tower in (head.classification_head, head.regression_head):
        tower.conv = tower.conv[:2]
    generator = AnchorGenerator(sizes, ((1.0, 1.5, 2.2),) * 2)
    return RetinaNet(nano_trunk(), 90, anchor_generator=generator, head=head)
