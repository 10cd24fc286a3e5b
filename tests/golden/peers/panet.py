"""A golden of PANet, by a definition in plain PyTorch with the names of the authors' code.

The authors' code needs PyTorch 0.4 and CUDA. Its boxes include their last pixel: a box from x1 to
x2 is x2 - x1 + 1 wide. All of this file does the same; boxes are converted where they are written.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import batched_nms, nms

from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn_detectron2 import divide
from peers.panet_modules import Body, PANet

CLASSES, DIM, MASK_DIM, DENSE = 4, 32, 64, 32
STAGES = (4, 8, 16)  # features of the 3 x 3 convolutions
CANDIDATES, KEPT, MOST = 30, 16, 6
BOX_SIZE, MASK_SIZE = 3, 3
FAR = torch.tensor([0.0, 0.0, 1.0, 1.0])  # from the last pixel to its far edge


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
    levels = range(len(STAGES) + 1)
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
