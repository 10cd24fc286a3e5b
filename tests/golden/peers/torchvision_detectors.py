"""torchvision's detectors at full size, for `check_parity`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.models.detection import FasterRCNN
from torchvision.ops.misc import FrozenBatchNorm2d

from peers import dense, faster_rcnn, rcnn_heads, ssd
from peers.detr import padded_batch


def full_size(name: str) -> tuple[FasterRCNN, Callable[[Path], None]]:
    """A model with its published files' norms and random weights, and a function that saves it."""
    build = getattr(torchvision.models.detection, name)
    model = build(weights=None, weights_backbone=None)
    if "v2" not in name:
        freeze(model.backbone.body, 0.0 if "resnet" in name else 1e-5)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.add_(0.1 * torch.randn_like(tensor))
            if key.endswith("bn3.weight"):
                tensor.mul_(0.2)  # as in a trained ResNet, whose features do not grow with depth
    model.eval()
    if "v2" in name or not name.startswith("faster"):
        model.rpn._post_nms_top_n["testing"] = 100  # their heads take long in float64
    faster_rcnn.scale_outputs(model, torch.randn(1, 3, 128, 128))
    if not name.startswith("faster"):
        rcnn_heads.scale_head(model, *padded_batch(128, 128))
    return model, lambda path: torch.save(model.state_dict(), path / "model.pth")


def freeze(module: torch.nn.Module, eps: float) -> None:
    """Replaces batch norms by torchvision's frozen ones."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, eps))
        else:
            freeze(child, eps)


def run(model: FasterRCNN, side: int) -> dict[str, np.ndarray]:
    """The inputs and outputs of a two-stage detector for a padded batch; it computes in float64.

    Those of the detections of image i, if there is a head for them, are ``detections/i/NAME``.
    """
    x, valid = padded_batch(side, side * 4 // 3)
    arrays = faster_rcnn.run(model.double(), x.double(), valid, detect=False)
    arrays = {k: v for k, v in arrays.items() if "/" not in k}
    if model.roi_heads.has_mask() or model.roi_heads.has_keypoint():
        arrays |= rcnn_heads.found(model, x.double(), valid)
    arrays = {k: v.float().numpy() for k, v in arrays.items()}
    return {"images": x.permute(0, 2, 3, 1).numpy(), "valid": valid.numpy(), **arrays}


def dense_full_size(name: str) -> tuple[torch.nn.Module, Callable[[Path], None]]:
    """A one-stage model, with its published file's norms and random weights; and how it is saved.

    It computes in float64; what is saved is float32.
    """
    build = getattr(torchvision.models.detection, name)
    model = build(weights=None, weights_backbone=None)
    if name in ("retinanet_resnet50_fpn", "fcos_resnet50_fpn"):
        freeze(model.backbone.body, 0.0 if "retinanet" in name else 1e-5)
    draw, side = (ssd.draw_weights, 300) if name.startswith("ssd") else (dense.draw_weights, 128)
    draw(model.eval(), padded_batch(side, side)[0])
    state = {key: value.clone() for key, value in model.state_dict().items()}
    return model.double(), lambda path: torch.save(state, path / "model.pth")


def run_dense(name: str, model: torch.nn.Module, side: int) -> dict[str, np.ndarray]:
    """The inputs and the outputs of the heads of a one-stage model for a padded batch."""
    square = name.startswith("ssd")
    x, valid = padded_batch(side, side if square else side * 4 // 3)
    if square:
        arrays = ssd.run(model, x.double(), valid)
    else:
        arrays = dense.run(model, x.double(), valid, dense.wide_truth())
    found = {key: arrays[key] for key in ("logits", "deltas", "centerness") if key in arrays}
    found = {key: value.float().numpy() for key, value in found.items()}
    return {"images": x.permute(0, 2, 3, 1).numpy(), "valid": valid.numpy(), **found}
