"""A golden of PANet, by a definition in plain PyTorch with the names of the authors' code.

The authors' code needs PyTorch 0.4 and CUDA. Its boxes include their last pixel: a box from x1 to
x2 is x2 - x1 + 1 wide. All of this file does the same; boxes are converted where they are written.
"""

import math
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import batched_nms, nms, roi_align

from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn_detectron2 import divide

CLASSES, DIM, MASK_DIM, DENSE = 4, 32, 64, 32
STAGES = (4, 8, 16)  # features of the 3 x 3 convolutions
STRIDES = (4, 8, 16)  # of the levels that regions are pooled from
CANDIDATES, KEPT, MOST = 30, 16, 6
BOX_SIZE, MASK_SIZE = 3, 3
FAR = torch.tensor([0.0, 0.0, 1.0, 1.0])  # from the last pixel to its far edge


class Affine(nn.Module):
    """A scale and a shift of each feature."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class Bottleneck(nn.Module):
    """The stride is that of the first convolution."""

    def __init__(self, in_dim: int, dim: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(in_dim, dim, 1, stride, bias=False), Affine(dim)
        self.conv2, self.bn2 = nn.Conv2d(dim, dim, 3, padding=1, bias=False), Affine(dim)
        self.conv3, self.bn3 = nn.Conv2d(dim, 4 * dim, 1, bias=False), Affine(4 * dim)
        self.downsample = None
        if in_dim != 4 * dim:
            shortcut = nn.Conv2d(in_dim, 4 * dim, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, Affine(4 * dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + (self.downsample(x) if self.downsample else x)).relu()


class Body(nn.Module):
    def __init__(self, stem: int, stages: tuple[int, ...], depths: tuple[int, ...]):
        super().__init__()
        first = OrderedDict(conv1=nn.Conv2d(3, stem, 7, 2, 3, bias=False), bn1=Affine(stem))
        self.res1 = nn.Sequential(first | {"relu": nn.ReLU(), "maxpool": nn.MaxPool2d(3, 2, 1)})
        self.last, before = len(stages) + 1, stem
        for i, (dim, depth) in enumerate(zip(stages, depths, strict=True)):
            blocks = [Bottleneck(before if j == 0 else 4 * dim, dim, 1) for j in range(depth)]
            if i:
                blocks[0] = Bottleneck(before, dim, 2)
            setattr(self, f"res{i + 2}", nn.Sequential(*blocks))
            before = 4 * dim

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = [self.res1(x)]
        for i in range(2, self.last + 1):
            maps.append(getattr(self, f"res{i}")(maps[-1]))
        return maps[1:]


def normed(in_dim: int, dim: int, size: int, stride: int = 1, *, bias: bool = False, relu=False):
    """A convolution with group norm."""
    conv = nn.Conv2d(in_dim, dim, size, stride, size // 2, bias=bias)
    return nn.Sequential(conv, nn.GroupNorm(32, dim), *[nn.ReLU()] * relu)


class Neck(nn.Module):
    """The body, the pyramid, and the path from fine to coarse; maps are finest first."""

    def __init__(self, body: nn.Module, dims: tuple[int, ...], dim: int):
        super().__init__()
        self.conv_body, count = body, len(dims)
        self.conv_top = normed(dims[-1], dim, 1)
        laterals = [normed(width, dim, 1) for width in reversed(dims[:-1])]
        self.topdown_lateral_modules = nn.ModuleList(
            [nn.ModuleDict({"conv_lateral": layer}) for layer in laterals]
        )
        self.posthoc_modules = nn.ModuleList([normed(dim, dim, 3) for _ in dims])
        for k, stride in ((1, 2), (2, 1)):
            layers = [normed(dim, dim, 3, stride, bias=True, relu=True) for _ in range(count - 1)]
            setattr(self, f"panet_buttomup_conv{k}_modules", nn.ModuleList(layers))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        *finer, coarsest = self.conv_body(x)
        sums = [self.conv_top(coarsest)]
        for module, level in zip(self.topdown_lateral_modules, reversed(finer), strict=True):
            enlarged = F.interpolate(sums[-1], scale_factor=2, mode="nearest")
            sums.append(module["conv_lateral"](level) + enlarged)
        outputs = [layer(y) for layer, y in zip(self.posthoc_modules, sums, strict=True)]
        finest, *coarser = reversed(outputs)
        maps = [finest]
        for i, level in enumerate(coarser):
            y = self.panet_buttomup_conv1_modules[i](maps[-1]) + level
            maps.append(self.panet_buttomup_conv2_modules[i](y))
        return [*maps, maps[-1][:, :, ::2, ::2]]


def fused(layers: nn.ModuleList, pooled: list[torch.Tensor]) -> torch.Tensor:
    """The largest value of each feature after the first layer of each level."""
    found = [layer(x) for layer, x in zip(layers, pooled, strict=True)]
    return torch.stack(found).amax(dim=0)


def stacked(count: int, dim: int) -> nn.Sequential:
    """Convolutions with norm and ReLU, as one sequence."""
    layers = [layer for _ in range(count) for layer in normed(dim, dim, 3, relu=True)]
    return nn.Sequential(*layers)


class PANet(nn.Module):
    def __init__(
        self,
        body: nn.Module,
        dims: tuple[int, ...],
        dim: int,
        *,
        classes: int,
        head_dim: int,
        mask_dim: int,
        dense: int,
        sizes: tuple[int, int],
        convs: int,
    ):
        super().__init__()
        self.sizes, last = sizes, mask_dim
        self.Conv_Body = Neck(body, dims, dim)
        self.RPN = nn.ModuleDict(
            {
                "FPN_RPN_conv": nn.Conv2d(dim, dim, 3, padding=1),
                "FPN_RPN_cls_score": nn.Conv2d(dim, 3, 1),
                "FPN_RPN_bbox_pred": nn.Conv2d(dim, 12, 1),
            }
        )
        self.Box_Head = nn.ModuleDict(
            {
                "conv1_head": nn.ModuleList([normed(dim, head_dim, 3, relu=True) for _ in dims]),
                "convs": stacked(convs - 1, head_dim),
                "fc": nn.Linear(head_dim * sizes[0] ** 2, dense),
            }
        )
        self.Box_Outs = nn.ModuleDict(
            {
                "cls_score": nn.Linear(dense, classes + 1),
                "bbox_pred": nn.Linear(dense, 4 * (classes + 1)),
            }
        )
        self.Mask_Head = nn.ModuleDict(
            {
                "mask_conv1": nn.ModuleList([normed(dim, head_dim, 3, relu=True) for _ in dims]),
                "conv_fcn": stacked(convs - 2, head_dim),
                "mask_conv4": normed(head_dim, last, 3, relu=True),
                "mask_conv4_fc": normed(head_dim, last, 3, relu=True),
                "mask_conv5_fc": normed(last, last // 2, 3, relu=True),
                "mask_fc": nn.Sequential(
                    nn.Linear(last // 2 * sizes[1] ** 2, 4 * sizes[1] ** 2), nn.ReLU()
                ),
                "upconv": nn.ConvTranspose2d(last, last, 2, 2),
            }
        )
        self.Mask_Outs = nn.ModuleDict({"classify": nn.Conv2d(last, classes + 1, 1)})

    def proposals(self, maps: list[torch.Tensor]) -> tuple[list, list]:
        """Logits and deltas of each level, with the anchors of a cell last."""
        shared = [self.RPN["FPN_RPN_conv"](x).relu() for x in maps]
        logits = [self.RPN["FPN_RPN_cls_score"](x).permute(0, 2, 3, 1) for x in shared]
        deltas = [self.RPN["FPN_RPN_bbox_pred"](x).permute(0, 2, 3, 1) for x in shared]
        return [x.flatten(1) for x in logits], [x.reshape(len(x), -1, 4) for x in deltas]

    def pooled(self, maps: list[torch.Tensor], boxes: list[torch.Tensor], size: int) -> list:
        """Every level's features of every region."""
        levels = zip(maps, STRIDES, strict=False)
        return [roi_align(x, boxes, size, 1 / s, 2, aligned=False) for x, s in levels]

    def classes(
        self, maps: list[torch.Tensor], boxes: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and deltas of regions, the background first."""
        head, outputs = self.Box_Head, self.Box_Outs
        x = head["convs"](fused(head["conv1_head"], self.pooled(maps, boxes, self.sizes[0])))
        x = head["fc"](x.flatten(1)).relu()
        return outputs["cls_score"](x), outputs["bbox_pred"](x).unflatten(1, (-1, 4))

    def masks(self, maps: list[torch.Tensor], boxes: list[torch.Tensor]) -> torch.Tensor:
        """Logits of masks, the background's first."""
        head = self.Mask_Head
        x = head["conv_fcn"](fused(head["mask_conv1"], self.pooled(maps, boxes, self.sizes[1])))
        y = head["upconv"](head["mask_conv4"](x)).relu()
        z = head["mask_conv5_fc"](head["mask_conv4_fc"](x)).flatten(1)
        z = head["mask_fc"](z).unflatten(1, (1, 2 * self.sizes[1], 2 * self.sizes[1]))
        return self.Mask_Outs["classify"](y) + z


def cell_anchors(stride: int, size: int) -> torch.Tensor:
    """Three shapes around the middle of a cell, of whole pixels at the size of the stride."""
    boxes = []
    for ratio in (0.5, 1.0, 2.0):
        width = np.round(math.sqrt(stride * stride / ratio))
        height = np.round(width * ratio)
        w, h, middle = width * size / stride, height * size / stride, (stride - 1) / 2
        corner = np.array([(w - 1) / 2, (h - 1) / 2])
        boxes.append(np.concatenate([middle - corner, middle + corner]))
    return torch.tensor(np.stack(boxes))


def anchors(shapes: list[tuple[int, int]]) -> list[torch.Tensor]:
    """Those of each level, by row, column and shape."""
    found = []
    for i, (rows, columns) in enumerate(shapes):
        stride = 4 * 2**i
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        shift = stride * torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
        found.append((shift + cell_anchors(stride, 8 * stride)).reshape(-1, 4))
    return found


def decode(
    boxes: torch.Tensor, deltas: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes moved by deltas, within an image of a height and width.

    Also whether a pixel or more of a box is in the image; the authors keep the others, too, which
    become one pixel wide or high at the border.
    """
    sides = boxes[..., 2:] - boxes[..., :2] + 1
    centre = boxes[..., :2] + sides / 2 + deltas[..., :2] * sides
    half = torch.exp(deltas[..., 2:].clamp(max=math.log(1000 / 16))) * sides / 2
    limit = torch.tensor([size[1] - 1, size[0] - 1])
    low, high = centre - half, centre + half - 1
    inside = torch.minimum(high, limit) + 1 - low.clamp(min=0)
    clipped = [torch.minimum(x.clamp(min=0), limit) for x in (low, high)]
    return torch.cat(clipped, dim=-1), (inside >= 1).all(dim=-1)


def propose(logits: list, deltas: list, boxes: list, size: tuple[int, int]) -> torch.Tensor:
    """The proposals of an image from its logits and deltas of each level."""
    found, scores = [], []
    for score, delta, anchor in zip(logits, deltas, boxes, strict=True):
        score, order = score.sort(descending=True)
        score, order = score[:CANDIDATES], order[:CANDIDATES]
        level, inside = decode(anchor[order], delta[order], size)
        level, score = level[inside], score[inside]
        kept = nms(level + FAR, score, 0.7)
        found.append(level[kept])
        scores.append(score[kept])
    best = torch.cat(scores).sort(descending=True).indices[:KEPT]
    return torch.cat(found)[best]


def detect(
    scores: torch.Tensor, deltas: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes, scores and labels of an image; labels count the background as 0."""
    weights = torch.tensor([10.0, 10.0, 5.0, 5.0])
    refined, inside = (x[:, 1:] for x in decode(boxes[:, None], deltas / weights, size))
    scores = scores.softmax(dim=1)[:, 1:]
    rows, labels = ((scores > 0.05) & inside).nonzero(as_tuple=True)
    found, scores = refined[rows, labels], scores[rows, labels]
    kept = batched_nms(found + FAR, scores, labels, 0.5)[:MOST]
    return found[kept], scores[kept], labels[kept] + 1


def narrow_model() -> PANet:
    """A model with few features."""
    body = Body(8, STAGES, (1, 2, 1))
    dims = tuple(4 * dim for dim in STAGES)
    sizes = (BOX_SIZE, MASK_SIZE)
    options = {"classes": CLASSES, "head_dim": DIM, "mask_dim": MASK_DIM, "dense": DENSE}
    return PANet(body, dims, DIM, **options, sizes=sizes, convs=3).eval()


@torch.no_grad()
def draw_weights(model: PANet) -> None:
    """Random weights, and outputs of the heads near 1."""
    for tensor in model.state_dict().values():
        tensor.normal_(0.0, 0.2).mul_(4).round_().div_(4)  # compresses well
    for part in (model.Box_Outs["cls_score"], model.Box_Outs["bbox_pred"]):
        part.weight[: len(part.weight) // (CLASSES + 1)] = 0  # of the background: we write zeros
        part.bias[: len(part.bias) // (CLASSES + 1)] = 0
    maps = model.Conv_Body(torch.randn(1, 3, 64, 64))
    logits, deltas = model.proposals(maps)
    divide(model.RPN["FPN_RPN_cls_score"], logits, 1.0)
    divide(model.RPN["FPN_RPN_bbox_pred"], deltas, 0.3)
    corner = 40 * torch.rand(50, 2)
    boxes = [torch.cat([corner, corner + 4 + 20 * torch.rand(50, 2)], dim=1)]
    scores, refined = model.classes(maps, boxes)
    divide(model.Box_Outs["cls_score"], [scores], 1.0)
    divide(model.Box_Outs["bbox_pred"], [refined], 1.0)
    divide(model.Mask_Outs["classify"], [model.masks(maps, boxes)], 1.0)
    model.Mask_Outs["classify"].weight[0] = 0
    model.Mask_Outs["classify"].bias[0] = 0


def goldens() -> None:
    """A narrow network on a padded batch."""
    model = narrow_model()
    x, valid = padded_batch(62, 50)
    draw_weights(model)
    write(
        "panet_panet",
        {"name": "panet_resnet50_fpn", "fields": fields(), "source": "panet"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() if v.is_floating_point() else v for k, v in run(model, x, valid).items()},
        {k: v.clone() for k, v in model.state_dict().items()},
        tolerance=1e-4,  # of boxes of up to 62 px; both sides compute in float32
    )


@torch.no_grad()
def run(model: PANet, x: torch.Tensor, valid: torch.Tensor) -> dict[str, torch.Tensor]:
    """All parts of a model's outputs, under our names and in our boxes."""
    x = F.pad(x * valid[:, None], (0, -x.shape[3] % 32, 0, -x.shape[2] % 32))
    sizes = [(int(v.any(1).sum()), int(v.any(0).sum())) for v in valid]
    maps = model.Conv_Body(x[:, [2, 1, 0]])  # blue, green, red
    logits, deltas = model.proposals(maps)
    levels = anchors([tuple(y.shape[2:]) for y in maps])
    boxes = [
        propose([y[i] for y in logits], [y[i] for y in deltas], levels, size).float()
        for i, size in enumerate(sizes)
    ]
    scores, refined = (y.unflatten(0, (len(x), -1)) for y in model.classes(maps, boxes))
    arrays = {
        "rpn_logits": torch.cat(logits, dim=1),
        "rpn_deltas": torch.cat(deltas, dim=1),
        "anchors/all": torch.cat(levels) + FAR,
        "proposals": torch.stack(boxes) + FAR,
        "class_logits": scores.roll(-1, dims=-1),
        "box_deltas": refined[:, :, 1:],
    }
    arrays |= {f"maps/{i}": y.permute(0, 2, 3, 1) for i, y in enumerate(maps) if i}
    found = [detect(*one) for one in zip(scores, refined, boxes, sizes, strict=True)]
    masks = model.masks(maps, [one[0].float() for one in found]).sigmoid()
    masks = masks[torch.arange(len(masks)), torch.cat([one[2] for one in found])]
    for i, (part, one) in enumerate(
        zip(masks.split([len(y[0]) for y in found]), found, strict=True)
    ):
        arrays[f"detections/{i}/boxes"] = one[0] + FAR
        arrays[f"detections/{i}/scores"] = one[1]
        arrays[f"detections/{i}/labels"] = one[2] - 1
        arrays[f"detections/{i}/masks"] = part
    return arrays


def fields() -> dict:
    """Fields of our model for `narrow_model`."""
    levels = range(len(STRIDES) + 1)
    return {
        "num_classes": CLASSES,
        "backbone_fields": {
            "num_blocks": [1, 2, 1],
            "stage_dims": STAGES,
            "stem_dim": 8,
            "stride_in_1x1": True,
        },
        "norm_epsilon": 0.0,
        "pyramid_dim": DIM,
        "anchor_fields": {
            "sizes": [[32 * 2**i] for i in levels],
            "strides": [4 * 2**i for i in levels],
            "legacy": True,
            "far_edge": True,
        },
        "proposal_fields": {"candidates": CANDIDATES, "kept": KEPT, "min_size": 1.0},
        "pooling_fields": {"size": BOX_SIZE, "last_pixel": True},
        "box_conv_dims": [DIM] * 3,
        "box_dims": [DENSE],
        "mask_pool_size": MASK_SIZE,
        "mask_conv_dims": [DIM, DIM, MASK_DIM],
        "decoding_fields": {"most": MOST, "min_size": 1.0},
    }


def models() -> dict[str, nn.Module]:
    """The definition in the size of the authors' model, without the box and mask of no object."""
    body = Body(64, (64, 128, 256, 512), (3, 4, 6, 3))
    options = {"classes": 80, "head_dim": 256, "mask_dim": 256, "dense": 1024}
    model = PANet(body, (256, 512, 1024, 2048), 256, **options, sizes=(7, 14), convs=4)
    model.Box_Outs["bbox_pred"] = nn.Linear(1024, 4 * 80)
    model.Mask_Outs["classify"] = nn.Conv2d(256, 80, 1)
    return {"panet_resnet50_fpn": model, "panet_nano": nano()}


def nano() -> nn.Module:
    """The definition with the sizes of our nano, on torchvision's network of its Faster R-CNN."""
    from peers import faster_rcnn

    body = faster_rcnn.nano().backbone.body
    options = {"classes": 90, "head_dim": 64, "mask_dim": 64, "dense": 256}
    model = PANet(body, (48, 96), 64, **options, sizes=(7, 8), convs=2)
    model.RPN = faster_rcnn.nano().rpn.head
    model.Box_Outs["bbox_pred"] = nn.Linear(256, 4 * 90)
    model.Mask_Outs["classify"] = nn.Conv2d(64, 90, 1)
    return model
