"""Shared by the goldens of dense detectors, made by torchvision."""

import copy
from collections import OrderedDict
from functools import partial
from unittest import mock

import torch
import torchvision
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from peers.detr import padded_batch
from peers.draws import randomise, write
from peers.faster_rcnn import NarrowResNet, batch_of, scale, spread

CLASSES = 5
NEVER = -20.0  # logit of the background's column, which nothing uses: we write it, and zeros
DECODING = {"score_thresh": 0.1, "topk_candidates": 40, "detections_per_img": 12}


def trunk(block: type, dim: int, norm, coarse_input: bool) -> BackboneWithFPN:
    """A narrow ResNet whose last three stages have a pyramid with two more levels."""
    body = NarrowResNet(block, [1, 1, 1, 1], norm_layer=norm)
    factor = 1 if block is BasicBlock else 4
    dims = [factor * x for x in (8, 16, 32)]
    maps = {f"layer{i + 2}": str(i) for i in range(3)}
    extra = LastLevelP6P7(dims[-1] if coarse_input else dim, dim)
    extra.use_P5 = not coarse_input  # it compares the two numbers of features, which may be equal
    return BackboneWithFPN(body, maps, dims, dim, extra)


def fields(block: type, dim: int, **more) -> dict:
    """Fields of our model for `trunk` and `DECODING`."""
    sizes = {"num_blocks": [1, 1, 1, 1], "stage_dims": [4, 8, 16, 32]}
    kind = {"block": "basic"} if block is BasicBlock else {}
    decoding = {
        "score_threshold": DECODING["score_thresh"],
        "candidates": DECODING["topk_candidates"],
        "most": DECODING["detections_per_img"],
        **more.pop("decoding_fields", {}),
    }
    return {
        "num_classes": CLASSES,
        "backbone_fields": {**sizes, **kind, **more.pop("backbone_fields", {})},
        "pyramid_dim": dim,
        "decoding_fields": decoding,
        **more,
    }


@torch.no_grad()
def draw_weights(model: torch.nn.Module, x: torch.Tensor) -> None:
    """Random weights, which compress well, and outputs near 1."""
    randomise(model)
    classes, boxes = model.head.classification_head, model.head.regression_head
    maps = list(model.backbone(x).values())
    model.backbone.fpn.layer_blocks.apply(partial(scale, factor=1 / spread(maps)))
    maps = list(model.backbone(x).values())
    scale(classes.cls_logits, 1.5 / spread([classes(maps)]))
    found = boxes(maps)
    if isinstance(found, tuple):
        scale(boxes.bbox_reg, 2 / spread([found[0]]))
        scale(boxes.bbox_ctrness, 1 / spread([found[1]]))
    else:
        scale(boxes.bbox_reg, 0.3 / spread([found]))
    columns = classes.cls_logits.bias.reshape(classes.num_anchors, -1)
    columns -= 1.5  # most anchors are no objects
    columns[:, 0] = NEVER
    kernel = classes.cls_logits.weight
    kernel.view(classes.num_anchors, -1, *kernel.shape[1:])[:, 0] = 0


def save(
    case: str,
    name: str,
    model: torch.nn.Module,
    ours: dict,
    size: tuple[int, int],
    truth: tuple[torch.Tensor, torch.Tensor, tuple[int, int]],
) -> None:
    """Writes the golden of a model with its losses; the peer computes in float64.

    Args:
        case: Name of the file.
        name: Name of our model.
        model: The peer.
        ours: Fields of our model.
        size: Height and width of the batch.
        truth: Boxes, our labels, and numbers of objects.
    """
    x, valid = padded_batch(*size)
    draw_weights(model, x)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    precise = copy.deepcopy(model).double().eval()
    arrays = run(precise, x.double(), valid, truth)
    write(
        case,
        {"name": name, "fields": ours, "source": "torchvision"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
        weights,
    )


@torch.no_grad()
def run(model: torch.nn.Module, x: torch.Tensor, valid: torch.Tensor, truth: tuple) -> dict:
    """All parts of a model's outputs, detections and losses, under our names."""
    batch = batch_of(x, valid)
    maps = list(model.backbone(batch.tensors).values())
    outputs = model.head(maps)
    anchors = model.anchor_generator(batch, maps)
    arrays = {
        "logits": outputs["cls_logits"][..., 1:],
        "deltas": outputs["bbox_regression"],
        "anchors/all": anchors[0],
        **{f"maps/{i}": y.permute(0, 2, 3, 1) for i, y in enumerate(maps) if i},
    }
    if "bbox_ctrness" in outputs:
        arrays["centerness"] = outputs["bbox_ctrness"][..., 0]
    per_cell = model.anchor_generator.num_anchors_per_location()[0]
    counts = [y.shape[2] * y.shape[3] * per_cell for y in maps]
    levels = OrderedDict((key, y.split(counts, dim=1)) for key, y in outputs.items())
    split = [one.split(counts) for one in anchors]
    with mock.patch("torchvision.ops.boxes.nms", nms):
        found = model.postprocess_detections(levels, split, batch.image_sizes)
    for i, one in enumerate(found):
        arrays |= {f"detections/{i}/{key}": one[key] for key in ("boxes", "scores")}
        arrays[f"detections/{i}/labels"] = one["labels"] - 1
    return arrays | losses(model, outputs, anchors, truth, counts)


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy suppression, as torchvision's compiled operator.

    It keeps boxes without area, whose IoU with one another is 0 / 0; an operator in Python that
    stands in for it may not.
    """
    overlaps = torchvision.ops.box_iou(boxes, boxes) > iou_threshold  # False for 0 / 0
    kept: list[int] = []
    for i in scores.sort(descending=True, stable=True).indices.tolist():
        if not overlaps[i, kept].any():
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def losses(
    model: torch.nn.Module, outputs: dict, anchors: list[torch.Tensor], truth: tuple, counts: list
) -> dict[str, torch.Tensor]:
    """The losses for given objects."""
    boxes, labels, numbers = truth
    targets = [
        {"boxes": boxes[i, :n].double(), "labels": labels[i, :n] + 1} for i, n in enumerate(numbers)
    ]
    more = (counts,) if "bbox_ctrness" in outputs else ()
    found = model.compute_loss(targets, outputs, anchors, *more)
    return {
        "targets/boxes": boxes,
        "targets/labels": labels,
        "targets/counts": torch.tensor(numbers),
        **{f"losses/{key}": value for key, value in found.items()},
    }


def nano_trunk() -> BackboneWithFPN:
    """A backbone and pyramid with the sizes of our nanos."""
    body = ResNet(BasicBlock, [2, 2, 1, 1])
    body.inplanes = 48
    body.conv1, body.bn1 = torch.nn.Conv2d(3, 48, 7, 2, 3, bias=False), torch.nn.BatchNorm2d(48)
    body.layer1 = body._make_layer(BasicBlock, 48, 2)
    body.layer2 = body._make_layer(BasicBlock, 96, 2, stride=2)
    backbone = BackboneWithFPN(body, {"layer1": "0", "layer2": "1"}, [48, 96], 64)
    backbone.fpn.extra_blocks = None
    return backbone


def wide_truth() -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """Objects of all sizes in a batch of 70 x 100 px: three in the first image, one in the second.

    Two of the first image overlap.
    """
    boxes = torch.tensor(
        [
            [[3.0, 2, 97.5, 50], [20, 10, 60, 33], [30.5, 14, 52, 30]],
            [[5, 10, 63, 66.5], [0, 0, 0, 0], [0, 0, 0, 0]],
        ]
    )
    return boxes, torch.tensor([[1, 4, 0], [2, 0, 0]]), (3, 1)
