"""A golden of RetinaNet, made by detectron2; `faster_rcnn_detectron2` says what it needs."""

import copy
from unittest import mock

import torch

from peers.checkouts import detectron2_whole
from peers.dense import CLASSES, DECODING, nms
from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn import DIM, batch_of, truth
from peers.faster_rcnn_detectron2 import STAGES, divide, draw, narrow_stages

SIZES = [[32 * 2**i * 2 ** (k / 3) for k in range(3)] for i in range(5)]
STRIDES = [8 * 2**i for i in range(5)]


def goldens() -> None:
    """A narrow ResNet with a pyramid, as the model zoo's, with losses; it computes in float64."""
    detectron2_whole()
    from detectron2.structures import ImageList

    model = narrow_model()
    x, valid = padded_batch(60, 62)
    draw_weights(model)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    precise = copy.deepcopy(model).double().eval()
    batch = batch_of(x[:, [2, 1, 0]].double(), valid)  # blue, green, red
    arrays = run(precise, ImageList(batch.tensors, batch.image_sizes))
    write(
        "retinanet_detectron2",
        {"name": "retinanet_resnet50_fpn_c5", "fields": fields(), "source": "detectron2"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
        weights,
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
        "num_convs": 2,
        "anchor_fields": {"sizes": SIZES, "order": "size", "strides": STRIDES},
        "decoding_fields": {
            "score_threshold": DECODING["score_thresh"],
            "candidates": DECODING["topk_candidates"],
            "most": DECODING["detections_per_img"],
            "clip_first": False,
            "drop_empty": True,
        },
    }


def narrow_model() -> torch.nn.Module:
    """A `RetinaNet` with few features, one block in each stage and two convolutions in a tower."""
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
    from detectron2.modeling.backbone import FPN
    from detectron2.modeling.backbone.fpn import LastLevelP6P7
    from detectron2.modeling.backbone.resnet import BasicStem, ResNet
    from detectron2.modeling.box_regression import Box2BoxTransform
    from detectron2.modeling.matcher import Matcher
    from detectron2.modeling.meta_arch.retinanet import RetinaNet, RetinaNetHead

    names = ["res3", "res4", "res5"]
    body = ResNet(BasicStem(3, 8, "FrozenBN"), narrow_stages(STAGES), out_features=names)
    backbone = FPN(body, names, DIM, top_block=LastLevelP6P7(4 * STAGES[-1], DIM, "res5"))
    levels = [f"p{i}" for i in range(3, 8)]
    shapes = [backbone.output_shape()[name] for name in levels]
    head = RetinaNetHead(
        input_shape=shapes, num_classes=CLASSES, num_anchors=9, conv_dims=[DIM] * 2
    )
    generator = DefaultAnchorGenerator(
        sizes=SIZES, aspect_ratios=[[0.5, 1.0, 2.0]], strides=STRIDES, offset=0.0
    )
    return RetinaNet(
        backbone=backbone,
        head=head,
        head_in_features=levels,
        anchor_generator=generator,
        box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        anchor_matcher=Matcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True),
        num_classes=CLASSES,
        test_score_thresh=DECODING["score_thresh"],
        test_topk_candidates=DECODING["topk_candidates"],
        max_detections_per_image=DECODING["detections_per_img"],
        pixel_mean=(103.53, 116.28, 123.675),
        pixel_std=(1.0, 1.0, 1.0),
    ).eval()


@torch.no_grad()
def draw_weights(model: torch.nn.Module) -> None:
    """Random weights and statistics, and outputs near 1."""
    draw(model)
    maps = model.backbone(torch.randn(1, 3, 64, 64))
    logits, deltas = model.head([maps[name] for name in model.head_in_features])
    divide(model.head.cls_score, logits, 1.5)
    divide(model.head.bbox_pred, deltas, 0.3)
    model.head.cls_score.bias.sub_(1.5)


@torch.no_grad()
def run(model: torch.nn.Module, images) -> dict[str, torch.Tensor]:
    """All parts of a model's outputs, detections and losses, under our names."""
    maps = model.backbone(images.tensor)
    levels = [maps[name] for name in model.head_in_features]
    anchors = model.anchor_generator(levels)
    found = model.head(levels)
    count = len(images.tensor)
    flat = [
        [
            x.unflatten(1, (-1, size)).permute(0, 3, 4, 1, 2).reshape(count, -1, size)
            for x in outputs
        ]
        for outputs, size in zip(found, (CLASSES, 4), strict=True)
    ]
    arrays = {
        "logits": torch.cat(flat[0], dim=1),
        "deltas": torch.cat(flat[1], dim=1),
        "anchors/all": torch.cat([x.tensor for x in anchors]),
        **{f"maps/{i}": x.permute(0, 2, 3, 1) for i, x in enumerate(levels) if i},
    }
    arrays |= losses(model, images, anchors, flat)
    model.eval()
    with mock.patch("torchvision.ops.boxes.nms", nms):
        found = model.forward_inference(images, levels, found)
    for i, one in enumerate(found):
        one.pred_boxes.clip(one.image_size)
        one = one[one.pred_boxes.nonempty()]
        arrays[f"detections/{i}/boxes"] = one.pred_boxes.tensor
        arrays[f"detections/{i}/scores"] = one.scores
        arrays[f"detections/{i}/labels"] = one.pred_classes
    return arrays


def losses(model: torch.nn.Module, images, anchors: list, flat: list) -> dict[str, torch.Tensor]:
    """The losses for given objects, divided by the number of positive anchors of this batch.

    detectron2 divides by a moving average, which starts at this number here.
    """
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    boxes, labels, counts = truth()
    targets = [
        Instances(size, gt_boxes=Boxes(boxes[i, :n].double()), gt_classes=labels[i, :n])
        for i, (n, size) in enumerate(zip(counts, images.image_sizes, strict=True))
    ]
    wanted, matched = model.label_anchors(anchors, targets)
    model.loss_normalizer = sum(int(((x >= 0) & (x != CLASSES)).sum()) for x in wanted)
    model.train()
    with EventStorage(0):
        found = model.losses(anchors, flat[0], wanted, flat[1], matched)
    return {
        "targets/boxes": boxes,
        "targets/labels": labels,
        "targets/counts": torch.tensor(counts),
        **{f"losses/{key}": value for key, value in found.items()},
    }
