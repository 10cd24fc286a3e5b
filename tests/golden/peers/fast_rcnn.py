"""Fast R-CNN's golden, made by detectron2: see `faster_rcnn_detectron2` for what it needs.

The given regions are the windows that our model takes without proposals: detectron2's anchors, with
their centres in the middle of the cells.
"""

import copy
from unittest import mock

import torch
from torchvision.models.detection import faster_rcnn

from peers.checkouts import detectron2_whole
from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn import CLASSES, DIM, batch_of, truth
from peers.faster_rcnn import nano as faster_rcnn_nano
from peers.faster_rcnn_detectron2 import divide, draw, fields, narrow_model, stages_of

WINDOWS = {"sizes": [[44, 60]], "ratios": [0.5, 1.0, 2.0], "strides": [16], "offset": 0.5}


def goldens() -> None:
    """A narrow ResNet with a pyramid, with losses; every window is partly in each image."""
    detectron2_whole()
    from detectron2.structures import ImageList

    options = ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals")
    model = narrow_model(*options)
    randomise(model)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    x, valid = padded_batch(60, 62)
    batch = batch_of(x[:, [2, 1, 0]], valid)  # blue, green, red
    images = ImageList(batch.tensors, batch.image_sizes)
    precise = copy.deepcopy(model).eval()
    arrays = run(precise, images) | training(precise, images)
    kept = ("num_classes", "backbone_fields", "pyramid_dim", "pooling_fields", "roi_sampling")
    ours = {name: fields()[name] for name in (*kept, "box_dims")}
    ours |= {"window_fields": {**WINDOWS, "order": "size"}, "decoding_fields": {"min_size": 0.0}}
    write(
        "fast_rcnn_detectron2",
        {"name": "fastrcnn_resnet50_fpn", "fields": ours, "source": "detectron2"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        arrays,
        weights,
        tolerance=1e-4,  # of boxes of up to 62 px; both sides compute in float32
    )


@torch.no_grad()
def randomise(model: torch.nn.Module) -> None:
    """Random weights and statistics, and outputs of the head near 1."""
    draw(model)
    maps = list(model.backbone(torch.randn(1, 3, 64, 64)).values())
    size = max(float(x.std()) for x in maps)
    for head, predictor in stages_of(model):
        logits, deltas = predictor(head(size * torch.randn(50, DIM, 7, 7)))
        divide(predictor.cls_score, [logits], 1.0)
        divide(predictor.bbox_pred, [deltas], 1.0)


def proposals(images) -> list:
    """The windows, clipped to each image, as precomputed proposals."""
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
    from detectron2.structures import Boxes, Instances

    sizes, ratios, stride, offset = WINDOWS.values()
    generator = DefaultAnchorGenerator(
        sizes=sizes, aspect_ratios=[ratios], strides=stride, offset=offset
    )
    (windows,) = generator([images.tensor[:, :, :: stride[0], :: stride[0]]])
    found = []
    for size in images.image_sizes:
        boxes = Boxes(windows.tensor.clone())
        boxes.clip(size)
        assert boxes.nonempty().all()
        found.append(
            Instances(size, proposal_boxes=boxes, objectness_logits=torch.zeros(len(boxes)))
        )
    return found


@torch.no_grad()
def run(model: torch.nn.Module, images) -> dict[str, torch.Tensor]:
    """The outputs under our names, and the detections of each image."""
    maps, given, heads = model.backbone(images.tensor), proposals(images), model.roi_heads
    pooled = heads.box_pooler(list(maps.values())[:4], [one.proposal_boxes for one in given])
    scores, refined = heads.box_predictor(heads.box_head(pooled))
    count = len(given)
    arrays = {
        "proposals": torch.stack([one.proposal_boxes.tensor for one in given]),
        "class_logits": scores.reshape(count, -1, CLASSES + 1),
        "box_deltas": refined.reshape(count, -1, CLASSES, 4),
    }
    for i, one in enumerate(heads._forward_box(maps, given)):
        arrays[f"detections/{i}/boxes"] = one.pred_boxes.tensor
        arrays[f"detections/{i}/scores"] = one.scores
        arrays[f"detections/{i}/labels"] = one.pred_classes
    return arrays


def training(model: torch.nn.Module, images) -> dict[str, torch.Tensor]:
    """The losses; the sampler takes the first candidates instead of random ones."""
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    boxes, labels, counts = truth()
    targets = [
        Instances(size, gt_boxes=Boxes(boxes[i, :n]), gt_classes=labels[i, :n])
        for i, (n, size) in enumerate(zip(counts, images.image_sizes, strict=True))
    ]
    maps = model.backbone(images.tensor)
    model.train()
    with mock.patch("torch.randperm", lambda n, **_: torch.arange(n)), EventStorage(0):
        _, losses = model.roi_heads(images, maps, proposals(images), targets)
    return {
        "targets/boxes": boxes,
        "targets/labels": labels,
        "targets/counts": torch.tensor(counts),
        **{f"losses/{key}": value for key, value in losses.items()},
    }


def models() -> dict[str, torch.nn.Module]:
    """detectron2's model for our name; torchvision's parts for the nano."""
    detectron2_whole()
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    levels = ["res2", "res3", "res4", "res5"]
    cfg.merge_from_list(
        [
            *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.DEPTH", 50),
            *("MODEL.RESNETS.OUT_FEATURES", levels, "MODEL.FPN.IN_FEATURES", levels),
            *("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals", "MODEL.DEVICE", "meta"),
            *("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
            *("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
            *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 2),
            *("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7),
        ]
    )
    nano = torch.nn.ModuleList(
        [
            trunk(),
            faster_rcnn.FastRCNNConvFCHead((96, 5, 5), [], [256]),
            torch.nn.Linear(256, 81),
            torch.nn.Linear(256, 4 * 80),
        ]
    )
    return {"fastrcnn_resnet50_fpn": build_model(cfg), "fastrcnn_nano": nano}


def trunk() -> torch.nn.Module:
    """The backbone of the nanos of R-CNN, SPP-net and Fast R-CNN."""
    return faster_rcnn_nano().backbone.body
