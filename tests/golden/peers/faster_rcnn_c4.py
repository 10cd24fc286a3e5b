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
from peers.mask_rcnn import masks
from peers.rcnn_heads import COUNTS, MOST

STAGES, SIZES = [2, 4, 8, 16], [16, 32, 64]


def goldens() -> None:
    """Narrow networks with losses, the second with masks."""
    detectron2_whole()
    from detectron2.structures import BitMasks

    save("faster_rcnn_detectron2_c4", "fasterrcnn_resnet50_c4", narrow_model(), {})
    options = {
        "MODEL.MASK_ON": True,
        "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
        "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
        "TEST.DETECTIONS_PER_IMAGE": MOST,
    }
    model = narrow_model(*(x for pair in options.items() for x in pair))
    more = {"mask_dim": 16, "decoding_fields": {"most": MOST, "min_size": 0.0}}
    kept = {"targets/masks": masks((62, 90))}
    truths = [BitMasks(x[:n]) for x, n in zip(*kept.values(), COUNTS, strict=True)]
    save("mask_rcnn_detectron2_c4", "maskrcnn_resnet50_c4", model, more, kept, gt_masks=truths)


def save(
    case: str,
    name: str,
    model: torch.nn.Module,
    more: dict,
    kept: dict[str, torch.Tensor] | None = None,
    **truths: list,
) -> None:
    """Writes a golden; the batch is not padded to a multiple of anything.

    Args:
        case: Name of the file.
        name: Name of our model.
        model: The peer.
        more: Fields of our model beside those of all these models.
        kept: Further arrays for the tests.
        **truths: Further targets of each image.
    """
    from detectron2.structures import ImageList

    x, valid = padded_batch(62, 90)
    draw_weights(model)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    peer = copy.deepcopy(model).eval()
    sizes = [(int(v.any(1).sum()), int(v.any(0).sum())) for v in valid]
    images = ImageList(x[:, [2, 1, 0]], sizes)  # blue, green, red
    arrays = run(peer, images)
    arrays |= faster_rcnn_detectron2.training(peer, images, **truths)
    write(
        case,
        {"name": name, "fields": {**fields(), **more}, "source": "detectron2"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {**arrays, **(kept or {})},
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


def narrow_model(*options: object) -> torch.nn.Module:
    """A `GeneralizedRCNN` with `Res5ROIHeads` and few features; `options` are its own."""
    from detectron2.modeling.backbone import resnet

    stages = faster_rcnn_detectron2.narrow_stages(STAGES[:3])
    stem = resnet.BasicStem(3, 8, "FrozenBN")
    backbone = resnet.ResNet(stem, stages, out_features=["res4"])
    return faster_rcnn_detectron2.assemble(narrow_configuration(*options), backbone)


def narrow_configuration(*options: object):
    """The default configuration with few features, anchors and regions, and further options."""
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
            *options,
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
    if heads.mask_on:
        logits = heads.mask_head.layers(pooled)
        divide(heads.mask_head.predictor, [logits], 2.0)


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
        "class_logits": scores.reshape(count, -1, heads.num_classes + 1),
        "box_deltas": refined.reshape(count, -1, heads.num_classes, 4),
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
    """detectron2's models for our names."""
    detectron2_whole()
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg, found = get_cfg(), {}
    cfg.merge_from_list(["MODEL.RESNETS.DEPTH", 50, "MODEL.DEVICE", "meta"])
    found["fasterrcnn_resnet50_c4"] = build_model(cfg)
    mask = ["MODEL.MASK_ON", True, "MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"]
    cfg.merge_from_list(mask)
    found["maskrcnn_resnet50_c4"] = build_model(cfg)

    resnext = ["MODEL.RESNETS.DEPTH", 101, "MODEL.RESNETS.NUM_GROUPS", 32]
    resnext += ["MODEL.RESNETS.WIDTH_PER_GROUP", 8, "MODEL.RESNETS.STRIDE_IN_1X1", False]
    cfg = faster_rcnn_detectron2.pyramid_configuration(*resnext)
    found["fasterrcnn_resnext101_32x8d_fpn"] = build_model(cfg)
    cfg.merge_from_list(mask)
    cfg.merge_from_list(["MODEL.ROI_MASK_HEAD.NUM_CONV", 4])
    found["maskrcnn_resnext101_32x8d_fpn"] = build_model(cfg)
    return found
