"""detectron2's detectors on one map at full size, for `check_parity`.

They need what `faster_rcnn_detectron2` needs.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from peers import faster_rcnn_c4, tridentnet
from peers.detr import padded_batch


def full_size(name: str) -> tuple[torch.nn.Module, Callable[[Path], None]]:
    """A model with random weights and 100 proposals, and a function that saves it."""
    tridentnet.project()
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    if name.startswith("tridentnet"):
        tridentnet.configured(cfg, test_branch=1)
        cfg.MODEL.BACKBONE.NAME = "build_trident_resnet_backbone"
    cfg.merge_from_list(
        [
            *("MODEL.RESNETS.DEPTH", 50, "MODEL.DEVICE", "cpu"),
            *("MODEL.RPN.PRE_NMS_TOPK_TEST", 1000, "MODEL.RPN.POST_NMS_TOPK_TEST", 100),
            *("MODEL.MASK_ON", name.startswith("mask")),
            *("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"),
        ]
    )
    model = build_model(cfg).eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.add_(0.1 * torch.randn_like(tensor))
            if key.endswith("conv3.norm.weight"):
                tensor.mul_(0.2)  # as in a trained ResNet, whose features do not grow with depth
    faster_rcnn_c4.scale_heads(model)
    return model, lambda path: torch.save({"model": model.state_dict()}, path / "model.pth")


def run(name: str, model: torch.nn.Module, side: int) -> dict[str, np.ndarray]:
    """The inputs and outputs of a detector for a padded batch.

    Those of the detections of image i, if it finds masks, are ``detections/i/NAME``.
    """
    from detectron2.structures import ImageList

    x, valid = padded_batch(side, side * 4 // 3)
    sizes = [(int(v.any(1).sum()), int(v.any(0).sum())) for v in valid]
    images = ImageList(x[:, [2, 1, 0]], sizes)  # blue, green, red
    if name.startswith("tridentnet"):
        arrays = tridentnet.run(model, images, branches=1)
    else:
        arrays = faster_rcnn_c4.run(model, images)
    kept = "detections/" if name.startswith("mask") else "/"
    arrays = {k: v.numpy() for k, v in arrays.items() if "/" not in k or k.startswith(kept)}
    return {"images": x.permute(0, 2, 3, 1).numpy(), "valid": valid.numpy(), **arrays}
