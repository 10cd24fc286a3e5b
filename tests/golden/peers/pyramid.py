"""Goldens of pyramids of feature maps: torchvision's, detectron2's and mmdet's.

The third size of each side is odd, so that doubling does not give the next finer size.
"""

import json
from collections import OrderedDict

import numpy as np
import torch
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from peers.checkouts import detectron2_backbones, mmdet_necks
from peers.draws import HERE, randomise

DIMS, DIM = (2, 3, 4), 2
ODD, EVEN = ((13, 9), (7, 5), (4, 3)), ((12, 8), (6, 4), (3, 2))


def goldens() -> None:
    """Writes one file, in which each case is a group ``CASE/...`` of arrays."""
    cases = {**torchvision_cases(), **detectron2_cases(), **mmdet_cases()}
    arrays = {}
    for case, (model, sizes, call) in cases.items():
        maps = [
            torch.randn(1, dim, *size).mul(16).round().div(16)
            for dim, size in zip(DIMS, sizes, strict=True)
        ]
        with torch.no_grad():
            outputs = call(randomise(model), maps)
        arrays |= {f"{case}/maps/{i}": x.permute(0, 2, 3, 1) for i, x in enumerate(maps)}
        arrays |= {f"{case}/outputs/{i}": x.permute(0, 2, 3, 1) for i, x in enumerate(outputs)}
        arrays |= {f"{case}/weights/{name}": x for name, x in model.state_dict().items()}
    arrays = {name: np.asarray(x) for name, x in arrays.items()}
    np.savez_compressed(HERE / "pyramids.npz", cases=json.dumps(list(cases)), **arrays)


def torchvision_cases() -> dict:
    """With the extra levels of Faster R-CNN and RetinaNet, and with norms."""

    def call(model: torch.nn.Module, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        return list(model(OrderedDict((str(i), x) for i, x in enumerate(maps))).values())

    kinds = {
        "pool": {"extra_blocks": LastLevelMaxPool()},
        "output": {"extra_blocks": LastLevelP6P7(DIM, DIM)},
        "input": {"extra_blocks": LastLevelP6P7(DIMS[-1], DIM)},
        "batch": {"norm_layer": torch.nn.BatchNorm2d},
    }
    return {
        f"torchvision_{kind}": (FeaturePyramidNetwork(list(DIMS), DIM, **options), ODD, call)
        for kind, options in kinds.items()
    }


def detectron2_cases() -> dict:
    """Levels P3 to P7 of RetinaNet, on a backbone that gives the maps; its FPN doubles sizes."""
    detectron2_backbones()
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.backbone.backbone import Backbone
    from detectron2.modeling.backbone.fpn import FPN, LastLevelP6P7

    names = ("res3", "res4", "res5")

    class Maps(Backbone):
        """Gives its input back."""

        def forward(self, x: dict) -> dict:
            return x

        def output_shape(self) -> dict:
            return {
                name: ShapeSpec(channels=dim, stride=8 * 2**i)
                for i, (name, dim) in enumerate(zip(names, DIMS, strict=True))
            }

    def call(model: torch.nn.Module, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        return list(model(dict(zip(names, maps, strict=True))).values())

    model = FPN(Maps(), list(names), DIM, top_block=LastLevelP6P7(DIMS[-1], DIM))
    return {"detectron2_input": (model, EVEN, call)}


def mmdet_cases() -> dict:
    """FPN with extra levels without ReLU; PAFPN with norms and with extra levels."""
    mmdet_necks()
    from mmdet.models.necks.fpn import FPN
    from mmdet.models.necks.pafpn import PAFPN

    def call(model: torch.nn.Module, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        return list(model(maps))

    sizes = (list(DIMS), DIM)
    models = {
        "fpn_output": FPN(*sizes, 5, add_extra_convs="on_output"),
        "pafpn_pool": PAFPN(*sizes, 4),
        "pafpn_batch": PAFPN(*sizes, 3, norm_cfg={"type": "BN"}),
    }
    return {f"mmdet_{kind}": (model, ODD, call) for kind, model in models.items()}
