"""Golden of Keypoint R-CNN, made by torchvision."""

import torch
import torchvision
from torchvision.models.detection import FasterRCNN, faster_rcnn, keypoint_rcnn

from peers import rcnn_heads
from peers.faster_rcnn import DIM, nano, version_1

JOINTS = 5


def goldens() -> None:
    """Two sizes of the images."""
    for case, size in (("wide", (60, 62)), ("high", (62, 50))):
        model, fields = version_1()
        model.roi_heads.box_predictor = faster_rcnn.FastRCNNPredictor(32, 2)
        with_keypoints(model, DIM, JOINTS, (DIM,) * 3)
        model.roi_heads.detections_per_img = rcnn_heads.MOST
        model.roi_heads.score_thresh = 0.0
        fields |= {
            "num_classes": 1,
            "num_keypoints": JOINTS,
            "decoding_fields": {"most": rcnn_heads.MOST, "score_threshold": 0.0},
            "keypoint_conv_dims": [DIM] * 3,
        }
        truth = {"labels": torch.zeros(2, 3, dtype=torch.long), "keypoints": keypoints()}
        name = "keypointrcnn_resnet50_fpn"
        rcnn_heads.save(f"keypoint_rcnn_torchvision_{case}", name, model, fields, size, truth)


def with_keypoints(model: FasterRCNN, dim: int, joints: int, dims: tuple[int, ...]) -> None:
    """Gives a Faster R-CNN a keypoint head, as `KeypointRCNN` does."""
    heads = model.roi_heads
    heads.keypoint_roi_pool = rcnn_heads.pooling()
    heads.keypoint_head = keypoint_rcnn.KeypointRCNNHeads(dim, dims)
    heads.keypoint_predictor = keypoint_rcnn.KeypointRCNNPredictor(dims[-1], joints)


def keypoints() -> torch.Tensor:
    """Labelled, hidden and absent joints in each box, on its right edge and beyond it."""
    low, high = rcnn_heads.BOXES[:, :, None].chunk(2, dim=-1)
    places = torch.tensor([[0.3, 0.55], [1.0, 0.2], [0.1, 1.0], [0.8, 0.7], [1.4, 0.5]])
    seen = torch.tensor([2.0, 1, 2, 0, 2]).expand(*low.shape[:2], JOINTS)
    return torch.cat([low + places * (high - low), seen[..., None]], dim=-1)


def models() -> dict[str, torch.nn.Module]:
    """torchvision's models for our names, without the box of the background."""
    build = torchvision.models.detection.keypointrcnn_resnet50_fpn
    found = {
        "keypointrcnn_resnet50_fpn": build(weights=None, weights_backbone=None),
        "keypointrcnn_nano": nano(),
    }
    small = found["keypointrcnn_nano"]
    with_keypoints(small, 64, 17, (48, 48))
    small.roi_heads.box_predictor = faster_rcnn.FastRCNNPredictor(256, 2)
    for model in found.values():
        box = model.roi_heads.box_predictor
        box.bbox_pred = torch.nn.Linear(box.bbox_pred.in_features, 4)
    return found
