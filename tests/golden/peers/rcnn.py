"""The parameters of R-CNN and SPP-net: torchvision's ResNets, and dense layers. No golden.

The authors' models are Caffe's; the tests compare their parts with other programs.
"""

import itertools

import torch
import torchvision

from peers.fast_rcnn import trunk

_CLASSES = 20  # of PASCAL VOC


def models() -> dict[str, torch.nn.Module]:
    """A model with the layers of each of ours."""
    resnet = torchvision.models.resnet50()
    del resnet.fc
    c4 = torchvision.models.resnet50()
    del c4.fc, c4.layer4
    return {
        "rcnn_nano": _chain(trunk(), 5 * 5 * 96, 256, _CLASSES + 1),
        "rcnn_resnet50": _chain(resnet, 2048, _CLASSES + 1),
        "sppnet_nano": _chain(trunk(), 50 * 96, 256, _CLASSES + 1),
        "sppnet_resnet50": _chain(c4, 50 * 1024, 1024, 1024, _CLASSES + 1),
    }


def _chain(body: torch.nn.Module, *dims: int) -> torch.nn.Module:
    """A backbone, and dense layers between these numbers of features."""
    layers = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(dims)]
    return torch.nn.ModuleList([body, *layers])
