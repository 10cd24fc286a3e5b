"""A golden of Faster R-CNN without a pyramid, made by detectron2: see `faster_rcnn_detectron2`."""

import copy

import torch
from torchvision.models.resnet import BasicBlock, ResNet

from peers import faster_rcnn_detectron2
from peers.checkouts import detectron2_whole
from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn import CLASSES
from peers.faster_rcnn_detectron2 import divide

STAGES, SIZES = [2, 4, 8, 16], [16, 32, 64]


def goldens() -> None:
    """A narrow network with losses. The batch is not padded to a multiple of anything."""
    detectron2_whole()
    from detectron2.structures import ImageList

    model = narrow_model()
    x, valid = padded_batch(62, 90)
    draw_weights(model)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    peer = copy.deepcopy(model).eval()
    sizes = [(int(v.any(1).sum()), int(v.any(0).sum())) for v in valid]
    images = ImageList(x[:, [2, 1, 0]], sizes)  # blue, green, red
    arrays = run(peer, images)
    arrays |= faster_rcnn_detectron2.training(peer, images)
    write(
        "faster_rcnn_detectron2_c4",
        {"name": "fasterrcnn_resnet50_c4", "fields": fields(), "source": "detectron2"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        arrays,
        weights,
        tolerance=1e-4,  # of boxes of up to 90 px; both sides compute in float32
    )


def fields() -> dict:
    """Fields of our model for `narrow_model`."""
    tops = {"train_candidates": 60, "train_kept": 20, "candidates": 50, "kept": 12, "min_size": 0.0}
    return {
        "num_classes": CLASSES,
        "backbone_fields": {
            "num_blocks": [1, 1, 1, 3],
            "stage_dims": STAGES,
            "stem_dim": 8,
            "stride_in_1x1": True,
        },
        "anchor_fields": {"sizes": [SIZES], "strides": [16], "order": "size"},
        "proposal_fields": tops,
        "roi_sampling": {"num": 16},
    }


def narrow_model() -> torch.nn.Module:
    """A `GeneralizedRCNN` with `Res5ROIHeads` and few features."""
    from detectron2.modeling.backbone import resnet

    stages = faster_rcnn_detectron2.narrow_stages(STAGES[:3])
    stem = resnet.BasicStem(3, 8, "FrozenBN")
    backbone = resnet.ResNet(stem, stages, out_features=["res4"])
    return faster_rcnn_detectron2.assemble(narrow_configuration(), backbone)


def narrow_configuration():
    """The default configuration with few features, anchors and regions."""
    from detectron2.config import get_cfg

    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("MODEL.RESNETS.RES2_OUT_CHANNELS", 4 * STAGES[0]),
            *("MODEL.RESNETS.WIDTH_PER_GROUP", STAGES[0]),
            *("MODEL.ANCHOR_GENERATOR.SIZES", [SIZES]),
            *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 60, "MODEL.RPN.PRE_NMS_TOPK_TEST", 50),
            *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 20, "MODEL.RPN.POST_NMS_TOPK_TEST", 12),
            *("MODEL.ROI_HEADS.NUM_CLASSES", CLASSES),
            *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
        ]
    )
    return cfg


@torch.no_grad()
def draw_weights(model: torch.nn.Module) -> None:
    """Random weights and statistics, and outputs of the heads near 1."""
    faster_rcnn_detectron2.draw(model)
    scale_heads(model)


@torch.no_grad()
def scale_heads(model: torch.nn.Module) -> None:
    """Scales the last layers so that their outputs are near 1."""
    head, heads = model.proposal_generator.rpn_head, model.roi_heads
    maps = list(model.backbone(torch.randn(1, 3, 64, 64)).values())
    logits, deltas = head(maps)
    divide(head.objectness_logits, logits, 1.0)
    divide(head.anchor_deltas, deltas, 0.3)
    pooled = heads.res5(maps[0].std() * torch.randn(50, maps[0].shape[1], 14, 14).relu())
    scores, refined = heads.box_predictor(pooled.mean(dim=(2, 3)))
    divide(heads.box_predictor.cls_score, [scores], 1.0)
    divide(heads.box_predictor.bbox_pred, [refined], 1.0)


@torch.no_grad()
def run(model: torch.nn.Module, images) -> dict[str, torch.Tensor]:
    """All parts of a model's outputs, under our names."""
    arrays, maps, proposals = faster_rcnn_detectron2.regions(model, images)
    heads, count = model.roi_heads, len(images.tensor)
    boxes = [one.proposal_boxes for one in proposals]
    pooled = heads._shared_roi_transform([maps["res4"]], boxes)
    scores, refined = heads.box_predictor(pooled.mean(dim=(2, 3)))
    found, _ = heads(images, maps, proposals)
    arrays |= {
        "class_logits": scores.reshape(count, -1, CLASSES + 1),
        "box_deltas": refined.reshape(count, -1, CLASSES, 4),
    }
    return arrays | faster_rcnn_detectron2.detections(heads, maps, found)


def nano_body() -> torch.nn.Module:
    """A network with the sizes of our nanos on one map, without a head."""
    body = ResNet(BasicBlock, [1, 1, 1, 1])
    body.inplanes = 48
    body.conv1, body.bn1 = torch.nn.Conv2d(3, 48, 7, 2, 3, bias=False), torch.nn.BatchNorm2d(48)
    body.layer1 = body._make_layer(BasicBlock, 48, 1)
    body.layer2 = body._make_layer(BasicBlock, 64, 2, stride=2)
    body.layer3 = body._make_layer(BasicBlock, 96, 1, stride=2)
    body.layer4 = body.fc = torch.nn.Identity()
    return body


def models() -> dict[str, torch.nn.Module]:
    """detectron2's model for our name."""
    detectron2_whole()
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.RESNETS.DEPTH", 50, "MODEL.DEVICE", "meta"])
    return {"fasterrcnn_resnet50_c4": build_model(cfg)}
