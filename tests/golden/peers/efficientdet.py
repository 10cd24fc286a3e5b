"""Goldens of EfficientDet, made by rwightman's effdet.

effdet 0.4.1: ``pip install --no-deps effdet==0.4.1 omegaconf antlr4-python3-runtime==4.9.3
pycocotools``. Put ``PYTORCH_JIT=0`` before the command.
"""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import effdet
import numpy as np
import torch
from effdet.anchors import AnchorLabeler, Anchors
from effdet.bench import _batch_detection, _post_process
from effdet.config import get_efficientdet_config
from effdet.loss import DetectionLoss
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNetFeatures
from torch import nn

from peers.dense import CLASSES, nms, wide_truth
from peers.draws import images, randomise, write
from peers.efficientnet import FIELDS, NANO, pad_to
from peers.faster_rcnn import spread

# Of each stage of a narrow backbone: blocks, features, kernel, stride, expansion.
ROWS = ((1, 8, 3, 1, 1), (1, 8, 3, 2, 2), (1, 16, 5, 2, 2), (1, 16, 3, 2, 2), (1, 24, 3, 2, 2))
SIZES = {"pyramid_dim": 8, "num_cells": 2, "num_convs": 2}
CANDIDATES, MOST = 300, 12


def goldens() -> None:
    """Symmetric padding and weighted sums; TensorFlow's padding and biases, and plain sums.

    To keep the files small, one has four levels, and the other one size of anchors a level.
    """
    levels = {"image_size": (64, 64), "max_level": 6, "num_levels": 4}
    fields = {"pad_type": "", "redundant_bias": False, **levels}
    save("efficientdet_effdet", "efficientdet_d0", {"num_extra": 1}, **fields)

    body = {"padding": "same", "norm_epsilon": 1e-3}
    sizes = {"sizes": [[32.0 * 2**i] for i in range(5)]}
    ours = {"weighted": False, "backbone_fields": body, "anchor_fields": sizes}
    fields = {"fpn_name": "bifpn_sum", "num_scales": 1}
    save("efficientdet_effdet_tf", "tf_efficientdet_d0", ours, **fields)


def config_of(name: str, **fields) -> object:
    """effdet's configuration of a narrow model."""
    config = get_efficientdet_config(name)
    fields |= {"fpn_channels": 8, "fpn_cell_repeats": 2, "box_class_repeats": 2}
    for field, value in {"num_classes": CLASSES, "image_size": (128, 128), **fields}.items():
        setattr(config, field, value)
    return config


def build(config: object, rows: tuple, stem_dim: int, indices: tuple = (2, 3, 4)) -> nn.Module:
    """effdet's class with a backbone that has the stages of a table."""
    blocks = []
    for depth, dim, kernel, stride, expansion in rows:
        kind = "ds" if expansion == 1 else "ir"
        blocks.append([f"{kind}_r{depth}_k{kernel}_s{stride}_e{expansion}_c{dim}_se0.25"])
    options = {"act_layer": nn.SiLU, "norm_layer": nn.BatchNorm2d, "stem_size": stem_dim}
    if config.pad_type == "same":
        options |= {"norm_layer": partial(nn.BatchNorm2d, eps=1e-3), "pad_type": "same"}
    body = EfficientNetFeatures(decode_arch_def(blocks), indices, **options)
    with mock.patch("effdet.efficientdet.create_model", lambda *_, **__: body):
        return effdet.EfficientDet(config, pretrained_backbone=False)


@torch.no_grad()
def draw_weights(model: nn.Module, x: torch.Tensor, bias: float = 0.0) -> None:
    """Random weights, which compress well, and outputs near 1; one weight of a sum is negative.

    Statistics are near those of the images: else features of a deep network depend on biases alone.

    Args:
        model: The peer.
        x: Images.
        bias: Mean of the biases of norms. In a deep network with a mean of 0, rounding errors grow
            from layer to layer: the peer's own float32 then differs from float64 by 3e-3.
    """
    randomise(model)
    for name, tensor in model.state_dict().items():
        if name.endswith("edge_weights"):
            tensor.uniform_(0.25, 1.5).mul_(16).round_().div_(16)
        elif name.endswith("weight") and tensor.ndim == 1:
            tensor.add_(1)
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = 1.0
        layer.bias.add_(bias)
    model.train()(x)
    for layer in norms:
        layer.running_mean.add_(0.1 * torch.randn_like(layer.running_mean))
        layer.running_var.mul_(torch.rand_like(layer.running_var) + 0.5)
        for tensor in (layer.running_mean, layer.running_var):
            tensor.mul_(64).round_().div_(64)
        layer.running_var.clamp_(min=1 / 64)
    model.eval()
    if hasattr(model.fpn.cell[0].fnode[5].combine, "edge_weights"):
        edges = model.fpn.cell[0].fnode[5].combine.edge_weights
        edges is None or edges[1].neg_()
    classes, boxes = model(x)
    for net, found, size in ((model.class_net, classes, 1.5), (model.box_net, boxes, 0.4)):
        factor = size / spread(found)
        net.predict.conv_pw.weight.mul_(factor)
        net.predict.conv_pw.bias.mul_(factor)
    model.class_net.predict.conv_pw.bias.sub_(1.5)


def save(case: str, name: str, ours: dict, **fields) -> None:
    """Writes the golden of a narrow model with its losses; the peer computes in float64."""
    config = config_of(name, **fields)
    model = build(config, ROWS, 8)
    x, valid = slightly_padded(config.image_size[0])
    draw_weights(model, pad_to(x, config.image_size[0]))
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    arrays = run(copy.deepcopy(model).double().eval(), x.double(), valid)
    body = {"stem_dim": 8, **dict(zip(FIELDS, map(list, zip(*ROWS, strict=True)), strict=True))}
    ours = {
        **{"num_classes": CLASSES, **SIZES, **ours},
        "backbone_fields": {**body, **ours.get("backbone_fields", {})},
        "decoding_fields": {"candidates": CANDIDATES, "most": MOST},
    }
    write(
        case,
        {"name": name, "fields": ours, "source": "effdet"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
        weights,
    )


def slightly_padded(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images and where they are valid; anchors in wide padding would have equal scores."""
    shape = (side - 2, side)
    x, valid = torch.zeros(2, 3, *shape), torch.zeros(2, *shape, dtype=torch.bool)
    for i, (rows, columns) in enumerate([(side - 8, side), (side - 2, side - 9)]):
        x[i, :, :rows, :columns] = images(rows, columns)[0].mul(2).round().div(2)
        valid[i, :rows, :columns] = True
    return x, valid


def exchanged(x: torch.Tensor) -> torch.Tensor:
    """Boxes or deltas with x and y in the other order."""
    return x[..., [1, 0, 3, 2]]


@torch.no_grad()
def run(model: nn.Module, x: torch.Tensor, valid: torch.Tensor) -> dict[str, torch.Tensor]:
    """All parts of a model's outputs, detections and losses, under our names."""
    config = model.config
    maps = model.fpn(model.backbone(pad_to(x, config.image_size[0])))
    outputs = model.class_net(list(maps)), model.box_net(list(maps))
    anchors = Anchors.from_config(config)
    logits, deltas = joined(outputs, config)
    arrays = {
        "logits": logits,
        "deltas": exchanged(deltas),
        "anchors/all": exchanged(anchors.boxes),
        **{f"maps/{i}": y.permute(0, 2, 3, 1) for i, y in enumerate(maps) if i},
    }
    found = detections(outputs, anchors.boxes.double(), config, valid)
    for i, one in enumerate(found):
        one = one[one[:, 4] > 0]
        arrays |= {f"detections/{i}/boxes": one[:, :4], f"detections/{i}/scores": one[:, 4]}
        arrays[f"detections/{i}/labels"] = one[:, 5].long() - 1
    return arrays | losses(outputs, anchors, config)


def detections(
    outputs: tuple, anchors: torch.Tensor, config: object, valid: torch.Tensor
) -> torch.Tensor:
    """Boxes, scores and categories of each image, in its own pixels."""
    levels, classes = config.num_levels, config.num_classes
    chosen = _post_process(*outputs, levels, classes, max_detection_points=CANDIDATES)
    sizes = torch.tensor([[int(v.any(0).sum()), int(v.any(1).sum())] for v in valid])
    with mock.patch("effdet.anchors.batched_nms", batched_nms):
        return _batch_detection(
            len(valid),
            *chosen[:2],
            anchors,
            *chosen[2:],
            torch.ones(len(valid)),
            sizes,
            max_det_per_image=MOST,
        )


def batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Suppression within each class, with unchanged coordinates."""
    kept = [
        index[nms(boxes[index], scores[index], iou_threshold)]
        for index in (torch.where(classes == k)[0] for k in classes.unique())
    ]
    index = torch.cat(kept)
    return index[scores[index].argsort(descending=True)]


def losses(outputs: tuple, anchors: Anchors, config: object) -> dict[str, torch.Tensor]:
    """The losses for given objects; the smallest one has no anchor with an IoU of 0.5."""
    boxes, labels, numbers = wide_truth()
    boxes[0, 2] = torch.tensor([30.5, 14, 36, 60])
    boxes *= min(config.image_size[0] / 100, 1)
    categories = torch.where(torch.arange(3) < torch.tensor(numbers)[:, None], labels + 1, -1)
    labeler = AnchorLabeler(anchors, config.num_classes)
    wanted = labeler.batch_label_anchors(exchanged(boxes), categories)
    _, classes, deltas = DetectionLoss(config)(*outputs, *wanted)
    return {
        "targets/boxes": boxes,
        "targets/labels": labels,
        "targets/counts": torch.tensor(numbers),
        "losses/class": classes,
        "losses/box": config.box_loss_weight * deltas,
    }


def full_size(name: str, side: int) -> tuple[nn.Module, Callable[[Path], None]]:
    """effdet's model with drawn weights, and a function that saves it to a folder."""
    model = effdet.create_model(name, pretrained=False, pretrained_backbone=False)
    draw_weights(model, torch.randn(2, 3, side, side), bias=2.0)
    return model, lambda path: torch.save(model.state_dict(), path / "model.pth")


@torch.no_grad()
def run_full_size(model: nn.Module, side: int) -> dict[str, np.ndarray]:
    """Random images and the outputs of the heads, under our names."""
    x = torch.randn(2, 3, side, side)
    logits, deltas = joined(model(x), model.config)
    arrays = {"images": x.permute(0, 2, 3, 1), "logits": logits, "deltas": exchanged(deltas)}
    return {key: y.numpy() for key, y in arrays.items()}


def joined(outputs: tuple, config: object) -> tuple[torch.Tensor, torch.Tensor]:
    """The outputs of all levels, by anchor."""
    logits, deltas = (
        torch.cat([y.permute(0, 2, 3, 1).reshape(len(y), -1, size) for y in levels], dim=1)
        for levels, size in zip(outputs, (config.num_classes, 4), strict=True)
    )
    return logits, deltas


def models() -> dict[str, nn.Module]:
    """effdet's model for each of our names; it has no D4 to D7 that are like D0 to D3."""
    found = {}
    for i in range(8):
        theirs = f"tf_efficientdet_d{i}"
        build_model = partial(effdet.EfficientDet, pretrained_backbone=False)
        found[theirs] = build_model(get_efficientdet_config(theirs))
        config = get_efficientdet_config(theirs)
        config.pad_type, config.redundant_bias = "", False
        config.backbone_name = config.backbone_name.removeprefix("tf_")
        found[f"efficientdet_d{i}"] = build_model(config)
    config = get_efficientdet_config("efficientdet_d0")
    for field, value in {
        **{"fpn_cell_repeats": 1, "box_class_repeats": 1, "image_size": (64, 64)},
        **{"min_level": 2, "max_level": 3, "num_levels": 2},
    }.items():
        setattr(config, field, value)
    found["efficientdet_nano"] = build(config, NANO, 16, (1, 2))
    return found
