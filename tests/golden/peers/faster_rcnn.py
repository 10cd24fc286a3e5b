"""Goldens of Faster R-CNN, made by torchvision."""

import copy
from functools import partial
from unittest import mock

import torch
import torchvision
from torchvision.models.detection import FasterRCNN, faster_rcnn, rpn
from torchvision.models.detection.backbone_utils import BackboneWithFPN, LastLevelMaxPool
from torchvision.models.detection.image_list import ImageList
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.misc import FrozenBatchNorm2d

from peers.detr import padded_batch
from peers.draws import randomise, write

DIM, CLASSES = 8, 5
TOP = {"train": (40, 24), "test": (30, 16)}


def goldens() -> None:
    """Version 1 with losses, version 2, and a MobileNet, each at another size of the images."""
    save("v1", "fasterrcnn_resnet50_fpn", *version_1(), (60, 62), losses=True)
    save("v2", "fasterrcnn_resnet50_fpn_v2", *version_2(), (62, 50))
    save("mobilenet", "fasterrcnn_mobilenet_v3_large_fpn", *mobilenet(), (60, 66))


class NarrowResNet(ResNet):
    """torchvision's ResNet with a sixteenth of the features after the stem."""

    def _make_layer(self, block, planes: int, *arguments, **options):
        return super()._make_layer(block, planes // 16, *arguments, **options)


def detector(body: torch.nn.Module, maps: dict, dims: list[int], **options) -> FasterRCNN:
    """A narrow detector on a backbone."""
    norm = options.pop("pyramid_norm", None)
    backbone = BackboneWithFPN(body, maps, dims, DIM, LastLevelMaxPool(), norm)
    tops = {
        f"rpn_{when}_nms_top_n_{mode}": top
        for mode, both in TOP.items()
        for when, top in zip(("pre", "post"), both, strict=True)
    }
    options.setdefault("box_head", faster_rcnn.TwoMLPHead(DIM * 49, 32))
    options["box_predictor"] = faster_rcnn.FastRCNNPredictor(32, CLASSES + 1)
    return FasterRCNN(backbone, box_batch_size_per_image=16, **tops, **options)


def fields(**more) -> dict:
    """Fields of our model for `detector`."""
    return {
        "num_classes": CLASSES,
        "pyramid_dim": DIM,
        "proposal_fields": {
            "train_candidates": TOP["train"][0],
            "train_kept": TOP["train"][1],
            "candidates": TOP["test"][0],
            "kept": TOP["test"][1],
        },
        "roi_sampling": {"num": 16},
        "box_dims": [32, 32],
        **more,
    }


def version_1() -> tuple[FasterRCNN, dict]:
    """With bottlenecks, and frozen norms without an epsilon."""
    body = NarrowResNet(Bottleneck, [1, 1, 1, 1], norm_layer=partial(FrozenBatchNorm2d, eps=0.0))
    maps = {f"layer{i + 1}": str(i) for i in range(4)}
    dims = {"num_blocks": [1, 1, 1, 1], "stage_dims": [4, 8, 16, 32]}
    ours = fields(backbone_fields=dims, norm_epsilon=0.0)
    return detector(body, maps, [16, 32, 64, 128]), ours


def version_2() -> tuple[FasterRCNN, dict]:
    """With basic blocks, batch norm in all parts, and more convolutions."""
    body = NarrowResNet(BasicBlock, [1, 1, 1, 1])
    maps = {f"layer{i + 1}": str(i) for i in range(4)}
    head = faster_rcnn.FastRCNNConvFCHead((DIM, 7, 7), [8, 8], [32], torch.nn.BatchNorm2d)
    model = detector(
        body,
        maps,
        [4, 8, 16, 32],
        pyramid_norm=torch.nn.BatchNorm2d,
        rpn_head=rpn.RPNHead(DIM, 3, conv_depth=2),
        box_head=head,
    )
    dims = {"block": "basic", "num_blocks": [1, 1, 1, 1], "stage_dims": [4, 8, 16, 32]}
    ours = fields(backbone_fields={**dims, "norm": "batch"}, box_conv_dims=[8, 8], box_dims=[32])
    return model, ours


def mobilenet() -> tuple[FasterRCNN, dict]:
    """Two maps of the same stride, and a threshold for the scores of proposals."""
    columns = [(3, 16, 16, 1), (3, 24, 8, 2), (5, 24, 8, 2), (5, 24, 16, 2), (5, 48, 16, 2)]
    settings, before = [], 16
    for size, expanded, dim, stride in columns:
        settings.append(
            InvertedResidualConfig(before, size, expanded, dim, False, "HS", stride, 1, 1.0)
        )
        before = dim
    body = MobileNetV3(settings, 32, norm_layer=partial(FrozenBatchNorm2d, eps=1e-5)).features
    sizes = ((32, 64, 128, 256, 512),) * 3
    generator = faster_rcnn.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 3)
    model = detector(
        body,
        {"5": "0", "6": "1"},
        [16, 96],
        rpn_anchor_generator=generator,
        rpn_score_thresh=0.05,
    )
    kernels, expanded, dims, strides = (list(column) for column in zip(*columns, strict=True))
    narrow = {
        "kernel_sizes": kernels,
        "expanded_dims": expanded,
        "block_dims": dims,
        "strides": strides,
        "squeeze_blocks": [],
        "num_relu_blocks": 0,
        "last_dim": 96,
        "map_blocks": [4, 5],
    }
    ours = fields(backbone_fields=narrow)
    ours["proposal_fields"]["score_threshold"] = 0.05
    return model, ours


def draw_weights(model: FasterRCNN, x: torch.Tensor) -> None:
    """Random weights, which compress well, and plausible outputs."""
    randomise(model)
    scale_outputs(model, x)
    for parameter in model.roi_heads.box_predictor.bbox_pred.parameters():
        parameter.data[:4] = 0  # the background's box, which nothing uses: we write zeros


def scale_outputs(model: FasterRCNN, x: torch.Tensor) -> None:
    """Scales layers so that the outputs of the heads are near 1: plausible boxes and scores."""
    with torch.no_grad():
        maps = list(model.backbone(x).values())
        model.backbone.fpn.layer_blocks.apply(partial(scale, factor=1 / spread(maps)))
        logits, deltas = model.rpn.head(list(model.backbone(x).values()))
        scale(model.rpn.head.cls_logits, 1 / spread(logits))
        scale(model.rpn.head.bbox_pred, 0.3 / spread(deltas))
        pooled = torch.randn(50, model.backbone.out_channels, 7, 7)
        logits, deltas = model.roi_heads.box_predictor(model.roi_heads.box_head(pooled))
        scale(model.roi_heads.box_predictor.cls_score, 1 / spread([logits]))
        scale(model.roi_heads.box_predictor.bbox_pred, 1 / spread([deltas]))


def spread(arrays: list[torch.Tensor]) -> float:
    """The standard deviation of the values of all arrays."""
    return float(torch.cat([x.flatten() for x in arrays]).std())


def scale(module: torch.nn.Module, factor: float) -> None:
    """Multiplies the outputs of a layer; the last norm of a sequence counts, if there is one."""
    if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.BatchNorm2d):
        for parameter in (module.weight, module.bias):
            if parameter is not None:
                parameter.mul_(factor)


def save(
    case: str,
    name: str,
    model: FasterRCNN,
    ours: dict,
    size: tuple[int, int],
    *,
    losses: bool = False,
) -> None:
    """Writes the golden of a model; the peer computes in float64."""
    x, valid = padded_batch(*size)
    draw_weights(model, x)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    precise = copy.deepcopy(model).double().eval()
    arrays = run(precise, x.double(), valid)
    if losses:
        arrays |= training(precise, x.double(), valid)
    write(
        f"faster_rcnn_torchvision_{case}",
        {"name": name, "fields": ours, "source": "torchvision"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
        weights,
    )


def batch_of(x: torch.Tensor, valid: torch.Tensor) -> ImageList:
    """The images as the model's own transform would pad them, with zeros to a multiple of 32."""
    rows, columns = (-side % 32 for side in x.shape[-2:])
    sizes = [(int(v.any(1).sum()), int(v.any(0).sum())) for v in valid]
    return ImageList(torch.nn.functional.pad(x, (0, columns, 0, rows)), sizes)


@torch.no_grad()
def run(
    model: FasterRCNN, x: torch.Tensor, valid: torch.Tensor, *, detect: bool = True
) -> dict[str, torch.Tensor]:
    """All parts of a model's outputs, under our names; detections take long at full size."""
    batch = batch_of(x, valid)
    maps = model.backbone(batch.tensors)
    logits, deltas = rpn.concat_box_prediction_layers(*model.rpn.head(list(maps.values())))
    anchors = model.rpn.anchor_generator(batch, list(maps.values()))[0]
    proposals, _ = model.rpn(batch, maps)
    heads = model.roi_heads
    pooled = heads.box_head(heads.box_roi_pool(maps, proposals, batch.image_sizes))
    scores, boxes = heads.box_predictor(pooled)
    found = heads(maps, proposals, batch.image_sizes)[0] if detect else []
    count = len(x)
    arrays = {
        "rpn_logits": logits.reshape(count, -1),
        "rpn_deltas": deltas.reshape(count, -1, 4),
        "anchors/all": anchors,
        "proposals": torch.stack(proposals),
        "class_logits": scores.roll(-1, dims=1).reshape(count, -1, scores.shape[1]),
        "box_deltas": boxes[:, 4:].reshape(count, -1, scores.shape[1] - 1, 4),
    }
    for i, level in list(enumerate(maps.values()))[1:]:
        arrays[f"maps/{i}"] = level.permute(0, 2, 3, 1)
    for i, one in enumerate(found):
        arrays |= {f"detections/{i}/{key}": one[key] for key in ("boxes", "scores")}
        arrays[f"detections/{i}/labels"] = one["labels"] - 1
    return arrays


def truth() -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """Boxes and labels of three objects in the first image and one in the second."""
    boxes = torch.tensor(
        [
            [[8.0, 2, 30.25, 30], [30, 4, 60, 33], [20.5, 10, 36, 24]],
            [[5, 10, 38, 40.5], [0, 0, 0, 0], [0, 0, 0, 0]],
        ]
    )
    return boxes, torch.tensor([[1, 4, 0], [2, 0, 0]]), (3, 1)


def training(model: FasterRCNN, x: torch.Tensor, valid: torch.Tensor) -> dict[str, torch.Tensor]:
    """The losses; the sampler takes the first candidates instead of random ones."""
    boxes, labels, counts = truth()
    targets = [
        {"boxes": boxes[i, :n].double(), "labels": labels[i, :n] + 1} for i, n in enumerate(counts)
    ]
    batch, maps = batch_of(x, valid), model.backbone(batch_of(x, valid).tensors)
    model.train()
    with mock.patch("torch.randperm", lambda n, **_: torch.arange(n)):
        proposals, first = model.rpn(batch, maps, targets)
        _, second = model.roi_heads(maps, proposals, batch.image_sizes, targets)
    return {
        "targets/boxes": boxes,
        "targets/labels": labels,
        "targets/counts": torch.tensor(counts),
        **{f"losses/{key}": value.detach() for key, value in {**first, **second}.items()},
    }


def models() -> dict[str, torch.nn.Module]:
    """torchvision's models for our names, without the box of the background; for the nano, ours.

    The nano's parts are torchvision's as well.
    """
    build = torchvision.models.detection
    named = {
        "fasterrcnn_resnet50_fpn": build.fasterrcnn_resnet50_fpn,
        "fasterrcnn_resnet50_fpn_v2": build.fasterrcnn_resnet50_fpn_v2,
        "fasterrcnn_mobilenet_v3_large_fpn": build.fasterrcnn_mobilenet_v3_large_fpn,
        "fasterrcnn_mobilenet_v3_large_320_fpn": build.fasterrcnn_mobilenet_v3_large_320_fpn,
    }
    found = {name: make(weights=None, weights_backbone=None) for name, make in named.items()}
    found["fasterrcnn_nano"] = nano()
    for model in found.values():
        predictor = model.roi_heads.box_predictor
        features = predictor.bbox_pred.in_features
        predictor.bbox_pred = torch.nn.Linear(features, 4 * (predictor.cls_score.out_features - 1))
    return found


def nano() -> FasterRCNN:
    """A model with the sizes of our nano."""
    body = ResNet(BasicBlock, [2, 2, 1, 1])
    body.inplanes = 48
    body.conv1, body.bn1 = torch.nn.Conv2d(3, 48, 7, 2, 3, bias=False), torch.nn.BatchNorm2d(48)
    body.layer1 = body._make_layer(BasicBlock, 48, 2)
    body.layer2 = body._make_layer(BasicBlock, 96, 2, stride=2)
    backbone = BackboneWithFPN(body, {"layer1": "0", "layer2": "1"}, [48, 96], 64)
    sizes = ((8, 11), (14, 18), (22, 28))
    generator = faster_rcnn.AnchorGenerator(sizes, ((1.0, 1.5, 2.2),) * 3)
    head = faster_rcnn.FastRCNNConvFCHead((64, 7, 7), [], [256, 256])
    pool = MultiScaleRoIAlign(["0", "1"], 7, 2)
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=generator,
        box_roi_pool=pool,
        box_head=head,
        box_predictor=faster_rcnn.FastRCNNPredictor(256, 91),
    )
