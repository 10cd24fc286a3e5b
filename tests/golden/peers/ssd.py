"""Goldens of SSD and SSDLite, made by torchvision."""

import copy
from functools import partial
from unittest import mock

import torch
import torchvision
from torch import nn
from torchvision.models import mobilenetv3, vgg
from torchvision.models.detection import ssd, ssdlite
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from peers.dense import CLASSES, nms
from peers.detr import padded_batch
from peers.draws import randomise, write
from peers.faster_rcnn import spread
from peers.mobilenetv3 import TINY

DECODING = {"score_thresh": 0.1, "topk_candidates": 10, "detections_per_img": 12}
FIELDS = {"score_threshold": 0.1, "candidates": 10, "most": 12}
SCALES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.05)
RATIOS = ((2,), (2, 3), (2, 3), (2,), (2,))
STEPS = (8, 16, 32, 64, 100)
COLUMNS = ("extra_dims", "extra_kernels", "extra_strides", "extra_paddings")
NORM = partial(nn.BatchNorm2d, eps=1e-3)


def goldens() -> None:
    """SSD with an odd map before the pooling that counts incomplete windows; SSDLite."""
    model, ours = narrow_ssd()
    save("ssd_torchvision", "ssd300_vgg16", model, ours, 100)
    model, ours = narrow_lite()
    save("ssd_torchvision_lite", "ssdlite320_mobilenet_v3_large", model, ours, 48)


def narrow_ssd() -> tuple[ssd.SSD, dict]:
    """torchvision's class with a narrow VGG and one further map less."""
    dims = [4, 6, 8, 8, 12]
    rows = [4, "M", 6, "M", 8, "M", 8, 8, "M", 12, 12, "M"]
    extractor = ssd.SSDFeatureExtractorVGG(vgg.make_layers(rows), highres=False)
    extractor.scale_weight = nn.Parameter(torch.empty(dims[3]))
    fc = extractor.extra[0][-1]
    fc[1], fc[3] = nn.Conv2d(12, 16, 3, padding=6, dilation=6), nn.Conv2d(16, 16, 1)
    extras = [(12, 3, 2, 1), (12, 3, 2, 1), (12, 2, 1, 0)]
    blocks, before = [extractor.extra[0]], 16
    for dim, size, stride, padding in extras:
        first, second = (
            nn.Conv2d(before, dim // 2, 1),
            nn.Conv2d(dim // 2, dim, size, stride, padding),
        )
        blocks.append(nn.Sequential(first, nn.ReLU(), second, nn.ReLU()))
        before = dim
    extractor.extra = nn.ModuleList(blocks)
    generator = DefaultBoxGenerator([list(x) for x in RATIOS], scales=SCALES, steps=STEPS)
    counts = generator.num_anchors_per_location()
    head = ssd.SSDHead([8, 16, 12, 12, 12], counts, CLASSES + 1)
    model = ssd.SSD(extractor, generator, (100, 100), CLASSES + 1, head=head, **DECODING)
    ours = {
        "backbone_fields": {"num_convs": [1, 1, 1, 2, 2], "stage_dims": dims},
        "dense_dim": 16,
        **dict(zip(COLUMNS, map(list, zip(*extras, strict=True)), strict=True)),
        "prior_fields": {"scales": SCALES, "ratios": RATIOS, "steps": STEPS},
    }
    return model, ours


def narrow_lite() -> tuple[ssd.SSD, dict]:
    """torchvision's class with a narrow MobileNetV3."""
    settings, before = [], 8
    for kernel, inside, dim, stride, squeeze, hard_swish in TINY:
        activation = "HS" if hard_swish else "RE"
        settings.append(
            mobilenetv3.InvertedResidualConfig(
                before, kernel, inside, dim, squeeze, activation, stride, 1, 1.0
            )
        )
        before = dim
    body = mobilenetv3.MobileNetV3(settings, 16, norm_layer=NORM).features
    last = max(i for i, row in enumerate(TINY) if row[3] > 1) + 1
    extractor = ssdlite.SSDLiteFeatureExtractorMobileNet(body, last, NORM, 1 / 32, min_depth=8)
    generator = DefaultBoxGenerator([[2]] * 6, min_ratio=0.2, max_ratio=0.95)
    counts = generator.num_anchors_per_location()
    dims = [TINY[last - 1][1], 144, 16, 8, 8, 8]
    head = ssdlite.SSDLiteHead(dims, counts, CLASSES + 1, NORM)
    model = ssd.SSD(extractor, generator, (48, 48), CLASSES + 1, head=head, **DECODING)
    model.nms_thresh = 0.55
    ours = {
        "backbone_fields": {
            "stem_dim": 8,
            "kernel_sizes": [row[0] for row in TINY],
            "expanded_dims": [row[1] for row in TINY],
            "block_dims": [row[2] for row in TINY],
            "strides": [row[3] for row in TINY],
            "squeeze_blocks": [i for i, row in enumerate(TINY) if row[4]],
            "num_relu_blocks": 2,
            "last_dim": 144,
        },
        "extra_dims": dims[2:],
        "prior_fields": {"scales": generator.scales, "ratios": [[2]] * 6},
    }
    return model, ours


@torch.no_grad()
def draw_weights(model: ssd.SSD, x: torch.Tensor) -> None:
    """Random weights, which compress well, and outputs near 1 at every level."""
    randomise(model)
    if hasattr(model.backbone, "scale_weight"):
        model.backbone.scale_weight.uniform_(2, 6).mul_(16).round_().div_(16)
        scale_convs(model, x)
    maps = list(model.backbone(x).values())
    for part, size in (("classification", 2.0), ("regression", 1.5)):
        layers = getattr(model.head, f"{part}_head").module_list
        for layer, level in zip(layers, maps, strict=True):
            last = layer[-1] if isinstance(layer, nn.Sequential) else layer
            factor = size / spread([layer(level)])
            last.weight.mul_(factor)
            last.bias.mul_(factor)


def scale_convs(model: ssd.SSD, x: torch.Tensor) -> None:
    """Scales the convolutions of the backbone so that features neither vanish nor grow."""

    def divide(layer: nn.Conv2d, _: object, y: torch.Tensor) -> torch.Tensor:
        size = y.std() if y[0, 0].numel() > 1 else y.abs().mean()
        layer.weight.div_(size)
        layer.bias.div_(size)
        return y / size

    convs = [layer for layer in model.backbone.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(divide) for layer in convs]
    model.backbone(x)
    for hook in hooks:
        hook.remove()


def save(case: str, name: str, model: ssd.SSD, ours: dict, side: int) -> None:
    """Writes the golden of a model with its losses; the peer computes in float64."""
    x, valid = padded_batch(side, side)
    draw_weights(model, x)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    precise = copy.deepcopy(model).double().eval()
    arrays = run(precise, x.double(), valid)
    ours = {"num_classes": CLASSES, "decoding_fields": FIELDS, **ours}
    if "lite" in case:
        ours["decoding_fields"] = {**FIELDS, "iou_threshold": 0.55}
    write(
        case,
        {"name": name, "fields": ours, "source": "torchvision"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
        weights,
    )


@torch.no_grad()
def run(model: ssd.SSD, x: torch.Tensor, valid: torch.Tensor) -> dict[str, torch.Tensor]:
    """All parts of a model's outputs, detections and losses, under our names."""
    sizes = [(int(v.any(1).sum()), int(v.any(0).sum())) for v in valid]
    batch = ImageList(x, sizes)
    maps = list(model.backbone(x).values())
    outputs = model.head(maps)
    anchors = model.anchor_generator(batch, maps)
    arrays = {
        "logits": outputs["cls_logits"].roll(-1, dims=-1),
        "deltas": outputs["bbox_regression"],
        "anchors/all": anchors[0],
        **{f"maps/{i}": y.permute(0, 2, 3, 1) for i, y in enumerate(maps) if i},
    }
    with mock.patch("torchvision.ops.boxes.nms", nms):
        found = model.postprocess_detections(outputs, anchors, sizes)
    for i, one in enumerate(found):
        arrays |= {f"detections/{i}/{key}": one[key] for key in ("boxes", "scores")}
        arrays[f"detections/{i}/labels"] = one["labels"] - 1
    return arrays | losses(model, outputs, anchors, x.shape[-1])


def losses(
    model: ssd.SSD, outputs: dict, anchors: list[torch.Tensor], side: int
) -> dict[str, torch.Tensor]:
    """The losses for three objects in the first image and one in the second.

    No default box has an IoU of 0.5 with the smallest object.
    """
    share = torch.tensor(
        [
            [[0.05, 0.1, 0.5, 0.7], [0.4, 0.1, 0.9, 0.5], [0.713, 0.02, 0.78, 0.317]],
            [[0.1, 0.2, 0.6, 0.95], [0, 0, 0, 0], [0, 0, 0, 0]],
        ]
    )
    boxes, labels, numbers = share * side, torch.tensor([[1, 4, 0], [2, 0, 0]]), (3, 1)
    targets = [
        {"boxes": boxes[i, :n].double(), "labels": labels[i, :n] + 1} for i, n in enumerate(numbers)
    ]
    matched = [
        model.proposal_matcher(torchvision.ops.box_iou(one["boxes"], boxes.double()))
        for one, boxes in zip(targets, anchors, strict=True)
    ]
    found = model.compute_loss(targets, outputs, anchors, matched)
    return {
        "targets/boxes": boxes,
        "targets/labels": labels,
        "targets/counts": torch.tensor(numbers),
        **{f"losses/{key}": value for key, value in found.items()},
    }


def models() -> dict[str, torch.nn.Module]:
    """torchvision's models for our names; SSD512 and the nano from its parts."""
    build = torchvision.models.detection
    options = {"weights": None, "weights_backbone": None}
    return {
        "ssd300_vgg16": build.ssd300_vgg16(**options),
        "ssdlite320_mobilenet_v3_large": build.ssdlite320_mobilenet_v3_large(**options),
        "ssd512_vgg16": large(),
        "ssd_nano": nano(),
    }


def large() -> nn.Module:
    """SSD512's parameters: torchvision's further layers for it have the same sizes."""
    extractor = ssd.SSDFeatureExtractorVGG(vgg.vgg16().features, highres=True)
    head = ssd.SSDHead([512, 1024, 512, 256, 256, 256, 256], [4, 6, 6, 6, 6, 4, 4], 91)
    return nn.ModuleList([extractor, head])


def nano() -> nn.Module:
    """The parameters of our nano."""
    rows = [24, "M", 48, 48, "M", 64, 64, "M", 96, 96]
    convs = [nn.Conv2d(96, 96, 3), nn.Conv2d(96, 96, 1), nn.Conv2d(96, 48, 1), nn.Conv2d(48, 96, 3)]
    scale = nn.ParameterList([torch.empty(64)])
    head = ssd.SSDHead([64, 96, 96], [6, 6, 4], 91)
    return nn.ModuleList([vgg.make_layers(rows, batch_norm=True), *convs, scale, head])
