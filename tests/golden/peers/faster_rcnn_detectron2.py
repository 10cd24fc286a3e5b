"""A golden of Faster R-CNN, made by detectron2: a checkout of its code is needed, $DETECTRON2.

Besides the peers' packages it needs detectron2's own pure-Python ones: fvcore, iopath, yacs,
cloudpickle, tabulate, hydra-core, omegaconf.
"""

import copy
from unittest import mock

import torch

from peers.checkouts import detectron2_whole
from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn import CLASSES, DIM, batch_of, truth

STAGES = [4, 8, 16, 32]


def goldens() -> None:
    """A narrow ResNet with a pyramid, as the model zoo's, with losses."""
    detectron2_whole()
    save("faster_rcnn_detectron2", "fasterrcnn_resnet50_fpn", narrow_model(), {})


def save(
    case: str,
    name: str,
    model: torch.nn.Module,
    more: dict,
    kept: dict[str, torch.Tensor] | None = None,
    **truths: list,
) -> None:
    """Writes the golden of a model.

    Args:
        case: Name of the file.
        name: Name of our model.
        model: The peer.
        more: Fields of our model beside those of all these models.
        kept: Further arrays for the tests.
        **truths: Further targets of each image.
    """
    from detectron2.structures import ImageList

    x, valid = padded_batch(60, 62)
    randomise_norms(model)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    precise = copy.deepcopy(model).eval()
    batch = batch_of(x[:, [2, 1, 0]], valid)  # blue, green, red
    images = ImageList(batch.tensors, batch.image_sizes)
    arrays = run(precise, images)
    arrays |= training(precise, images, **truths)
    write(
        case,
        {"name": name, "fields": {**fields(), **more}, "source": "detectron2"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {**arrays, **(kept or {})},
        weights,
        tolerance=1e-4,  # of boxes of up to 62 px; both sides compute in float32
    )


def fields() -> dict:
    """Fields of our model for `narrow_model`."""
    return {
        "num_classes": CLASSES,
        "backbone_fields": {
            "num_blocks": [1, 1, 1, 1],
            "stage_dims": STAGES,
            "stem_dim": 8,
            "stride_in_1x1": True,
        },
        "pyramid_dim": DIM,
        "anchor_fields": {
            "sizes": [[32 * 2**i] for i in range(5)],
            "rounded": False,
            "order": "size",
            "strides": [4 * 2**i for i in range(5)],
        },
        "proposal_fields": {
            "train_candidates": 40,
            "train_kept": 24,
            "candidates": 30,
            "kept": 16,
            "min_size": 0.0,
        },
        "pooling_fields": {
            "sampling_ratio": 0,
            "aligned": True,
            "level_epsilon": 0.0,
            "ratio_epsilon": 1e-8,
        },
        "roi_sampling": {"num": 16},
        "box_dims": [32, 32],
    }


def narrow_model(*options: object) -> torch.nn.Module:
    """A `GeneralizedRCNN` with few features and one block in each stage; `options` are its own."""
    from detectron2.config import get_cfg
    from detectron2.modeling.backbone import FPN
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool
    from detectron2.modeling.backbone.resnet import BasicStem, ResNet

    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128], [256], [512]]),
            *("MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"]),
            *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 40, "MODEL.RPN.PRE_NMS_TOPK_TEST", 30),
            *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 24, "MODEL.RPN.POST_NMS_TOPK_TEST", 16),
            *("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
            *("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
            *("MODEL.ROI_HEADS.NUM_CLASSES", CLASSES),
            *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
            *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 2),
            *("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7),
            *options,
        ]
    )
    names = ["res2", "res3", "res4", "res5"]
    body = ResNet(BasicStem(3, 8, "FrozenBN"), narrow_stages(STAGES), out_features=names)
    return assemble(cfg, FPN(body, names, DIM, top_block=LastLevelMaxPool()))


def pyramid_configuration(*options: object):
    """The configuration of a full-size model with a pyramid, without memory for its weights."""
    from detectron2.config import get_cfg

    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.DEVICE", "meta"),
            *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
            *("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]),
            *("MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128], [256], [512]]),
            *("MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"]),
            *("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
            *("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
            *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 2),
            *("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7),
            *options,
        ]
    )
    return cfg


def assemble(cfg, backbone: torch.nn.Module) -> torch.nn.Module:
    """A `GeneralizedRCNN` of a backbone, and the rest as a configuration says."""
    from detectron2.modeling import GeneralizedRCNN, build_proposal_generator, build_roi_heads

    shapes = backbone.output_shape()
    return GeneralizedRCNN(
        backbone=backbone,
        proposal_generator=build_proposal_generator(cfg, shapes),
        roi_heads=build_roi_heads(cfg, shapes),
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
    ).eval()


def narrow_stages(dims: list[int]) -> list:
    """Stages of one block each, after a stem of 8 features."""
    from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet

    stages, before = [], 8
    for i, dim in enumerate(dims):
        options = {"bottleneck_channels": dim, "stride_in_1x1": True, "norm": "FrozenBN"}
        options |= {"in_channels": before, "out_channels": 4 * dim}
        strides = [2 if i else 1]
        stages.append(ResNet.make_stage(BottleneckBlock, 1, stride_per_block=strides, **options))
        before = 4 * dim
    return stages


def randomise_norms(model: torch.nn.Module) -> None:
    """Random weights and statistics, and outputs of the heads near 1."""
    draw(model)
    with torch.no_grad():
        for _ in range(2):  # the pyramid's scale changes that of the heads
            head = model.proposal_generator.rpn_head
            maps = list(model.backbone(torch.randn(1, 3, 64, 64)).values())
            logits, deltas = head(maps)
            divide(head.objectness_logits, logits, 1.0)
            divide(head.anchor_deltas, deltas, 0.3)
            size = max(float(x.std()) for x in maps)
            for head, predictor in stages_of(model):
                logits, deltas = predictor(head(size * torch.randn(50, DIM, 7, 7)))
                divide(predictor.cls_score, [logits], 1.0)
                divide(predictor.bbox_pred, [deltas], 1.0)


@torch.no_grad()
def draw(model: torch.nn.Module) -> None:
    """Random weights and statistics."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif "cell_anchors" not in name and tensor.is_floating_point():
            tensor.normal_(0.0, 0.2).mul_(16).round_().div_(16)


def stages_of(model: torch.nn.Module) -> list[tuple[torch.nn.Module, torch.nn.Module]]:
    """The head and the predictor of boxes; of a cascade, those of each stage."""
    head, predictor = model.roi_heads.box_head, model.roi_heads.box_predictor
    if isinstance(predictor, torch.nn.ModuleList):
        return list(zip(head, predictor, strict=True))
    return [(head, predictor)]


def divide(layer: torch.nn.Module, outputs: list[torch.Tensor], spread: float) -> None:
    """Scales a layer so that its outputs have this standard deviation."""
    factor = spread / torch.cat([x.flatten() for x in outputs]).std()
    layer.weight.mul_(factor)
    layer.bias.mul_(factor)


@torch.no_grad()
def run(model: torch.nn.Module, images) -> dict[str, torch.Tensor]:
    """All parts of a model's outputs, under our names."""
    arrays, maps, proposals = regions(model, images)
    heads, count = model.roi_heads, len(images.tensor)
    pooled = heads.box_pooler(list(maps.values())[:4], [one.proposal_boxes for one in proposals])
    scores, refined = heads.box_predictor(heads.box_head(pooled))
    found = heads._forward_box(maps, proposals)
    arrays |= {
        "class_logits": scores.reshape(count, -1, CLASSES + 1),
        "box_deltas": refined.reshape(count, -1, CLASSES, 4),
    }
    return arrays | detections(heads, maps, found)


def regions(model: torch.nn.Module, images) -> tuple[dict[str, torch.Tensor], dict, list]:
    """What leads to the proposals, under our names; the maps, and the proposals."""
    maps = model.backbone(images.tensor)
    rpn, count = model.proposal_generator, len(images.tensor)
    levels = [maps[name] for name in rpn.in_features]
    logits, deltas = rpn.rpn_head(levels)
    flat = [x.permute(0, 2, 3, 1).reshape(count, -1) for x in logits]
    boxes = [x.permute(0, 2, 3, 1).reshape(count, -1, 4) for x in deltas]
    proposals, _ = rpn(images, maps)
    arrays = {
        "rpn_logits": torch.cat(flat, dim=1),
        "rpn_deltas": torch.cat(boxes, dim=1),
        "proposals": torch.stack([one.proposal_boxes.tensor for one in proposals]),
        "anchors/all": torch.cat([x.tensor for x in rpn.anchor_generator(levels)]),
    }
    for i, level in enumerate(levels):
        if i or len(levels) == 1:  # without the largest of a pyramid
            arrays[f"maps/{i}"] = level.permute(0, 2, 3, 1)
    return arrays, maps, proposals


def detections(heads: torch.nn.Module, maps: dict, found: list) -> dict[str, torch.Tensor]:
    """The detections of each image, under our names, with what further heads find in them."""
    arrays = {}
    for i, one in enumerate(heads.forward_with_given_boxes(maps, found)):
        arrays[f"detections/{i}/boxes"] = one.pred_boxes.tensor
        arrays[f"detections/{i}/scores"] = one.scores
        arrays[f"detections/{i}/labels"] = one.pred_classes
        if one.has("pred_masks"):
            arrays[f"detections/{i}/masks"] = one.pred_masks
        if one.has("pred_keypoints"):
            arrays[f"detections/{i}/keypoints"] = one.pred_keypoints
    return arrays


def training(model: torch.nn.Module, images, **truths: list) -> dict[str, torch.Tensor]:
    """The losses; the sampler takes the first candidates instead of random ones.

    Args:
        model: The model.
        images: A padded batch.
        **truths: Further targets of each image.
    """
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    boxes, labels, counts = truth()
    targets = [
        Instances(
            size,
            gt_boxes=Boxes(boxes[i, :n]),
            gt_classes=labels[i, :n],
            **{key: value[i] for key, value in truths.items()},
        )
        for i, (n, size) in enumerate(zip(counts, images.image_sizes, strict=True))
    ]
    maps = model.backbone(images.tensor)
    model.train()
    with mock.patch("torch.randperm", lambda n, **_: torch.arange(n)), EventStorage(0):
        proposals, first = model.proposal_generator(images, maps, targets)
        _, second = model.roi_heads(images, maps, proposals, targets)
    return {
        "targets/boxes": boxes,
        "targets/labels": labels,
        "targets/counts": torch.tensor(counts),
        **{f"losses/{key}": value for key, value in {**first, **second}.items()},
    }
