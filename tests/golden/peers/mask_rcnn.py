"""Goldens of Mask R-CNN, made by torchvision."""

import torch
import torchvision
from torchvision.models.detection import FasterRCNN, mask_rcnn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from peers import rcnn_heads
from peers.faster_rcnn import CLASSES, DIM, nano, version_1, version_2

SHOWN = 2  # detections of an image whose pasted masks are compared


def goldens() -> None:
    """Version 1, and version 2 with batch norm in all parts, at another size of the images."""
    for case, size in (("v1", (60, 62)), ("v2", (62, 50))):
        model, fields = (version_1 if case == "v1" else version_2)()
        norm = None if case == "v1" else torch.nn.BatchNorm2d
        with_masks(model, DIM, CLASSES, (DIM,) * 2, norm)
        model.roi_heads.detections_per_img = rcnn_heads.MOST
        fields |= {
            "decoding_fields": {"most": rcnn_heads.MOST},
            "mask_conv_dims": [DIM] * 2,
            "mask_dim": DIM,
        }
        fields |= {} if case == "v1" else {"mask_norm": "batch"}
        name = "maskrcnn_resnet50_fpn" + ("" if case == "v1" else "_v2")
        truth = {"labels": rcnn_heads.LABELS, "masks": masks(size)}
        rcnn_heads.save(f"mask_rcnn_torchvision_{case}", name, model, fields, size, truth, paste)


def with_masks(model: FasterRCNN, dim: int, classes: int, dims: tuple[int, ...], norm=None) -> None:
    """Gives a Faster R-CNN a mask head, as `MaskRCNN` does."""
    heads = model.roi_heads
    heads.mask_roi_pool = rcnn_heads.pooling()
    heads.mask_head = mask_rcnn.MaskRCNNHeads(dim, dims, 1, norm)
    heads.mask_predictor = mask_rcnn.MaskRCNNPredictor(dims[-1], dims[-1], classes + 1)


def masks(size: tuple[int, int]) -> torch.Tensor:
    """The ellipse in each box, without its left upper quarter."""
    rows, columns = (torch.arange(side) + 0.5 for side in size)
    left, top, right, bottom = (edge[..., None, None] for edge in rcnn_heads.BOXES.unbind(-1))
    x = (2 * columns - left - right) / (right - left).clamp(min=1)
    y = (2 * rows[:, None] - top - bottom) / (bottom - top).clamp(min=1)
    return (x**2 + y**2 < 1) & ~((x < 0) & (y < 0))


def paste(boxes: torch.Tensor, masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The first masks in pixels of the image."""
    return paste_masks_in_image(masks[:SHOWN], boxes[:SHOWN], size)[:, 0]


def models() -> dict[str, torch.nn.Module]:
    """torchvision's models for our names, without the box and the mask of the background."""
    build = torchvision.models.detection
    found = {
        "maskrcnn_resnet50_fpn": build.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None),
        "maskrcnn_resnet50_fpn_v2": build.maskrcnn_resnet50_fpn_v2(
            weights=None, weights_backbone=None
        ),
        "maskrcnn_nano": nano(),
    }
    with_masks(found["maskrcnn_nano"], 64, 90, (48, 48))
    for model in found.values():
        box, mask = model.roi_heads.box_predictor, model.roi_heads.mask_predictor
        box.bbox_pred = torch.nn.Linear(box.bbox_pred.in_features, 4 * 90)
        mask.mask_fcn_logits = torch.nn.Conv2d(mask.mask_fcn_logits.in_channels, 90, 1)
    return found
