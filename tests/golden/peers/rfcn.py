"""A golden of R-FCN, by a definition in PyTorch, with the layout of the authors' Caffe layers.

The authors' code needs Caffe. Their weights are in Caffe's format, so the checkpoint has our names.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.resnet import Bottleneck
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, nms

from peers import faster_rcnn_c4
from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn import CLASSES, truth
from peers.faster_rcnn_detectron2 import divide

STEM, STAGES, DEPTHS = 4, (2, 4, 8, 16), (1, 1, 1, 2)
RPN_DIM, DIM, BINS = 12, 16, 3
SIZES = (16, 32, 64)
CANDIDATES, KEPT, MIN_SIZE, HARDEST = 50, 12, 4.0, 5


class Stage(nn.Sequential):
    """Bottlenecks with the stride in the 3 x 3 convolution, all with the same dilation."""

    def __init__(self, in_dim: int, dim: int, depth: int, stride: int, dilation: int = 1):
        shortcut = nn.Conv2d(in_dim, 4 * dim, 1, stride, bias=False)
        first = nn.Sequential(shortcut, nn.BatchNorm2d(4 * dim))
        blocks = [Bottleneck(in_dim, dim, stride, first, dilation=dilation)]
        blocks += [Bottleneck(4 * dim, dim, dilation=dilation) for _ in range(depth - 1)]
        super().__init__(*blocks)


class RFCN(nn.Module):
    """Layers with the names of the authors' prototxt; the background is class 0, and has a box."""

    def __init__(
        self,
        stem: int,
        stages: tuple[int, ...],
        depths: tuple[int, ...],
        *,
        classes: int,
        rpn_dim: int,
        dim: int,
        bins: int,
        anchors: int,
    ):
        super().__init__()
        self.bins = bins
        self.conv1, self.bn1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False), nn.BatchNorm2d(stem)
        before = (stem, *(4 * width for width in stages))
        strides, dilations = (1, 2, 2, 1), (1, 1, 1, 2)
        parts = zip(before, stages, depths, strides, dilations, strict=False)
        self.stages = nn.ModuleList([Stage(*part) for part in parts])
        self.rpn_conv = nn.Conv2d(before[3], rpn_dim, 3, padding=1)
        self.rpn_cls_score = nn.Conv2d(rpn_dim, anchors, 1)  # theirs minus that of the background
        self.rpn_bbox_pred = nn.Conv2d(rpn_dim, 4 * anchors, 1)
        self.conv_new_1 = nn.Conv2d(before[4], dim, 1)
        self.rfcn_cls = nn.Conv2d(dim, (classes + 1) * bins**2, 1)
        self.rfcn_bbox = nn.Conv2d(dim, 8 * bins**2, 1)

    def maps(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The map of the proposals, and those of the votes."""
        x = F.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        for stage in self.stages[:3]:
            x = stage(x)
        votes = self.conv_new_1(self.stages[3](x)).relu()
        return x, self.rfcn_cls(votes), self.rfcn_bbox(votes)

    def proposals(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and deltas by row, column and anchor."""
        x = self.rpn_conv(x).relu()
        logits, deltas = self.rpn_cls_score(x), self.rpn_bbox_pred(x)
        deltas = deltas.permute(0, 2, 3, 1).reshape(len(x), -1, 4)
        return logits.permute(0, 2, 3, 1).flatten(1), deltas


def rounded(x: float) -> int:
    """Halves are rounded up, as in C for numbers above 0."""
    return math.floor(x + 0.5)


def pool(maps: torch.Tensor, box: torch.Tensor, bins: int, stride: int = 16) -> torch.Tensor:
    """The mean of each bin in its own maps of an image; a box includes its last pixel."""
    left, top, right, bottom = box.tolist()
    ends = []
    for low, high, length in ((top, bottom, maps.shape[1]), (left, right, maps.shape[2])):
        start = rounded(low) / stride
        extent = max((rounded(high) + 1) / stride - start, 0.1)
        edges = [
            (math.floor(start + i * extent / bins), math.ceil(start + (i + 1) * extent / bins))
            for i in range(bins)
        ]
        ends.append([(min(max(a, 0), length), min(max(b, 0), length)) for a, b in edges])
    grid = maps.unflatten(0, (-1, bins, bins))
    pooled = torch.zeros(grid.shape[:3], dtype=maps.dtype)
    for i, (first, last) in enumerate(ends[0]):
        for j, (begin, end) in enumerate(ends[1]):
            cells = grid[:, i, j, first:last, begin:end].flatten(1)
            if cells.shape[1]:
                pooled[:, i, j] = cells.mean(dim=1)
    return pooled


def votes(maps: torch.Tensor, boxes: torch.Tensor, bins: int) -> torch.Tensor:
    """The means of the bins of each box; boxes end at the far edge of their last pixel."""
    last = boxes - torch.tensor([0.0, 0.0, 1.0, 1.0])
    return torch.stack([pool(maps, box, bins).mean(dim=(1, 2)) for box in last])


def anchors(rows: int, columns: int) -> torch.Tensor:
    """Three shapes of each size around the middle of each cell."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centre = 16 * (torch.stack([x, y], dim=-1).reshape(-1, 1, 2) + 0.5)
    sides = [[s / r**0.5, s * r**0.5] for r in (0.5, 1.0, 2.0) for s in SIZES]
    half = torch.tensor(sides) / 2
    return torch.cat([centre - half, centre + half], dim=-1).reshape(-1, 4)


def propose(logits: torch.Tensor, deltas: torch.Tensor, cells: torch.Tensor, size) -> torch.Tensor:
    """The proposals of an image."""
    scores, order = logits.sort(descending=True)
    scores, order = scores[:CANDIDATES], order[:CANDIDATES]
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    boxes = clip_boxes_to_image(coder.decode_single(deltas[order], cells[order]), size)
    large = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= MIN_SIZE
    boxes, scores = boxes[large], scores[large]
    return boxes[nms(boxes, scores, 0.7)[:KEPT]]


def detect(scores: torch.Tensor, deltas: torch.Tensor, boxes: torch.Tensor, size) -> tuple:
    """Boxes, scores and labels of an image; the boxes of an object are the second four."""
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    refined = clip_boxes_to_image(coder.decode_single(deltas[:, 4:], boxes), size)
    rows, labels = (scores.softmax(dim=1)[:, 1:] > 0.05).nonzero(as_tuple=True)
    found, scores = refined[rows], scores.softmax(dim=1)[rows, labels + 1]
    large = (found[:, 2:] - found[:, :2]).amin(dim=1) >= 1e-2
    found, scores, labels = found[large], scores[large], labels[large]
    kept = batched_nms(found, scores, labels, 0.5)[:100]
    return found[kept], scores[kept], labels[kept]


def hard_losses(model: RFCN, maps: tuple, proposals: list[torch.Tensor]) -> dict:
    """Of the proposals and true boxes of each image, the losses of the worst."""
    boxes, labels, counts = truth()
    coder, entropies, distances, count = BoxCoder((10.0, 10.0, 5.0, 5.0)), [], [], 0
    for i, n in enumerate(counts):
        regions = torch.cat([proposals[i], boxes[i, :n]])
        overlap, match = box_iou(regions, boxes[i, :n]).max(dim=1)
        positive = overlap >= 0.5
        scores = votes(maps[1][i], regions, model.bins)
        deltas = votes(maps[2][i], regions, model.bins)[:, 4:]
        wanted = torch.where(positive, labels[i][match] + 1, 0)
        entropy = F.cross_entropy(scores, wanted, reduction="none")
        aims = coder.encode_single(boxes[i][match], regions)
        distance = F.smooth_l1_loss(deltas, aims, reduction="none").sum(dim=1) * positive
        worst = (entropy + distance).topk(HARDEST).indices
        count += len(worst)
        entropies.append(entropy[worst].sum())
        distances.append(distance[worst].sum())
    return {"losses/class": sum(entropies) / count, "losses/box": sum(distances) / count}


def narrow_model() -> RFCN:
    options = {"classes": CLASSES, "rpn_dim": RPN_DIM, "dim": DIM, "bins": BINS}
    return RFCN(STEM, STAGES, DEPTHS, **options, anchors=9).eval()


@torch.no_grad()
def draw_weights(model: RFCN) -> None:
    """Random weights and statistics, and outputs of the heads near 1."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.is_floating_point():
            tensor.normal_(0.0, 0.3).mul_(16).round_().div_(16)
    shared, scores, deltas = model.maps(torch.randn(1, 3, 64, 96))
    divide(model.rfcn_cls, [scores], 2.0)
    divide(model.rfcn_bbox, [deltas], 2.0)
    logits, shifts = model.proposals(shared)
    divide(model.rpn_cls_score, [logits], 1.0)
    divide(model.rpn_bbox_pred, [shifts], 0.3)


def goldens() -> None:
    """A narrow network on a padded batch; the losses are those of the hardest regions."""
    model = narrow_model()
    x, valid = padded_batch(62, 90)
    draw_weights(model)
    write(
        "rfcn_torch",
        {"name": "rfcn_resnet50", "fields": fields(), "source": "zoo"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        run(model, x, valid),
        zoo_weights(model),
        tolerance=1e-4,  # of boxes of up to 90 px; both sides compute in float32
    )


@torch.no_grad()
def run(model: RFCN, x: torch.Tensor, valid: torch.Tensor) -> dict[str, torch.Tensor]:
    """All parts of a model's outputs, under our names."""
    maps = model.maps(x * valid[:, None])
    logits, deltas = model.proposals(maps[0])
    cells = anchors(*maps[0].shape[2:])
    sizes = [(int(v.any(1).sum()), int(v.any(0).sum())) for v in valid]
    boxes = [propose(*one, cells, size) for *one, size in zip(logits, deltas, sizes, strict=True)]
    scores = [votes(y, one, model.bins) for y, one in zip(maps[1], boxes, strict=True)]
    refined = [votes(y, one, model.bins) for y, one in zip(maps[2], boxes, strict=True)]
    arrays = {
        "rpn_logits": logits,
        "rpn_deltas": deltas,
        "anchors/all": cells,
        "maps/0": maps[0].permute(0, 2, 3, 1),
        "proposals": torch.stack(boxes),
        "class_logits": torch.stack(scores).roll(-1, dims=-1),
        "box_deltas": torch.stack(refined)[:, :, None, 4:],
    }
    for i, one in enumerate(zip(scores, refined, boxes, sizes, strict=True)):
        found = dict(zip(("boxes", "scores", "labels"), detect(*one), strict=True))
        arrays |= {f"detections/{i}/{name}": value for name, value in found.items()}
    targets = dict(zip(("boxes", "labels"), truth()[:2], strict=True))
    arrays |= {f"targets/{name}": value for name, value in targets.items()}
    arrays["targets/counts"] = torch.tensor(truth()[2])
    return arrays | hard_losses(model, maps, boxes)


def fields() -> dict:
    """Fields of our model for `narrow_model`."""
    proposals = {"candidates": CANDIDATES, "kept": KEPT, "min_size": MIN_SIZE}
    return {
        "num_classes": CLASSES,
        "backbone_fields": {"num_blocks": DEPTHS, "stage_dims": STAGES, "stem_dim": STEM},
        "anchor_fields": {"sizes": [SIZES], "strides": [16], "offset": 0.5},
        "proposal_fields": {**proposals, "train_candidates": CANDIDATES, "train_kept": KEPT},
        "rpn_dim": RPN_DIM,
        "vote_dim": DIM,
        "bins": BINS,
    }


def zoo_weights(model: RFCN) -> dict[str, torch.Tensor]:
    """The checkpoint in our names and layouts: the background last, without its box."""
    weights = {**leaves(model.conv1, "body/stem_conv"), **leaves(model.bn1, "body/stem_norm")}
    for i, stage in enumerate(model.stages):
        for j, block in enumerate(stage):
            path = f"{'body' if i < 3 else 'box/stage'}/stages_{i}_{j}"
            for k in (1, 2, 3):
                weights |= leaves(getattr(block, f"conv{k}"), f"{path}/conv{k}")
                weights |= leaves(getattr(block, f"bn{k}"), f"{path}/norm{k}")
            if block.downsample:
                weights |= leaves(block.downsample[0], f"{path}/shortcut_conv")
                weights |= leaves(block.downsample[1], f"{path}/shortcut_norm")
    head = {"conv_0": model.rpn_conv, "logits": model.rpn_cls_score, "deltas": model.rpn_bbox_pred}
    for name, layer in head.items():
        weights |= leaves(layer, f"rpn/head/{name}")
    bins = model.bins**2
    weights |= leaves(model.conv_new_1, "box/reduce")
    for name, layer, first in (("logits", model.rfcn_cls, bins), ("deltas", model.rfcn_bbox, None)):
        for key, value in leaves(layer, f"box/{name}").items():
            weights[key] = value.roll(-first, -1) if first else value[..., 4 * bins :]
    return {name: value.contiguous() for name, value in weights.items()}


def leaves(layer: nn.Module, path: str) -> dict[str, torch.Tensor]:
    """A convolution's or a norm's tensors under our names."""
    state = layer.state_dict()
    if "running_mean" in state:
        return {
            f"params/{path}/scale": state["weight"],
            f"params/{path}/bias": state["bias"],
            f"batch_stats/{path}/mean": state["running_mean"],
            f"batch_stats/{path}/var": state["running_var"],
        }
    found = {f"params/{path}/kernel": state["weight"].permute(2, 3, 1, 0)}
    return found | ({f"params/{path}/bias": state["bias"]} if "bias" in state else {})


def models() -> dict[str, nn.Module]:
    """The definition in the size of the authors' model, without the box of no object."""
    options = {"classes": 20, "rpn_dim": 512, "dim": 1024, "bins": 7, "anchors": 9}
    model = RFCN(64, (64, 128, 256, 512), (3, 4, 6, 3), **options)
    model.rfcn_bbox = nn.Conv2d(1024, 4 * 49, 1)
    return {"rfcn_resnet50": model, "rfcn_nano": nano()}


def nano() -> nn.Module:
    """The layers of our nano; those of the backbone are torchvision's."""
    layers = [faster_rcnn_c4.nano_body(), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 5 * 18, 1)]
    layers += [nn.Conv2d(96, 128, 1), nn.Conv2d(128, 9 * 91, 1), nn.Conv2d(128, 9 * 4, 1)]
    return nn.ModuleList(layers)
