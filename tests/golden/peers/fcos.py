"""Goldens of FCOS, made by torchvision."""

from functools import partial

import torch
import torchvision
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops.misc import FrozenBatchNorm2d

from peers.dense import CLASSES, DECODING, fields, nano_trunk, save, trunk, wide_truth
from peers.faster_rcnn import truth


def goldens() -> None:
    """Frozen norms with an epsilon, with one convolution in a tower and with two."""
    for case, block, convs, size, objects in (
        ("", BasicBlock, 1, (70, 100), wide_truth()),
        ("_small", Bottleneck, 2, (60, 62), truth()),
    ):
        backbone = trunk(block, 32, partial(FrozenBatchNorm2d, eps=1e-5), coarse_input=False)
        head = FCOSHead(32, 1, CLASSES + 1, convs)
        model = FCOS(backbone, CLASSES + 1, head=head, **DECODING)
        decoding = {"iou_threshold": 0.6}
        ours = fields(block, 32, num_convs=convs, norm_epsilon=1e-5, decoding_fields=decoding)
        save(f"fcos_torchvision{case}", "fcos_resnet50_fpn", model, ours, size, objects)


def models() -> dict[str, torch.nn.Module]:
    """torchvision's models for our names, without the column of the background."""
    options = {"weights": None, "weights_backbone": None, "num_classes": 90}
    generator = AnchorGenerator(((4,), (8,)), ((1.0,),) * 2)
    head = FCOSHead(64, 1, 90, 2)
    return {
        "fcos_resnet50_fpn": torchvision.models.detection.fcos_resnet50_fpn(**options),
        "fcos_nano": FCOS(nano_trunk(), 90, anchor_generator=generator, head=head),
    }
