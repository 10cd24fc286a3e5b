"""Goldens of ExtremeNet, made by the authors' code.

It needs a checkout of xingyizhou/ExtremeNet, $EXTREMENET, and what `peers.cornernet` needs. Those
of their files that need compiled code or a graphics card are not used: soft suppression and the
suppression of ghosts are loops of our own, as their `test/coco_extreme.py` has them.
"""

import copy
import importlib
import itertools
import os
import types
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from peers.checkouts import keypoint_networks
from peers.cornernet import (
    BLOCKS,
    DIMS,
    HEAD_DIM,
    OUT_DIM,
    PADDED,
    SIZE,
    authors_drawing,
    soft_suppression,
    spread,
)
from peers.detr import padded_batch
from peers.draws import randomise, write

CLASSES, POINTS, GROUPS, MOST = 2, 10, 60, 30
THRESHOLD = 0.05
KINDS = ("t", "l", "b", "r")


def goldens() -> None:
    """A narrow network, and the extreme points of polygons."""
    model = randomise(network(DIMS, BLOCKS, OUT_DIM, CLASSES))
    x, valid = padded_batch(*SIZE)
    rows, columns = (new - old for new, old in zip(PADDED, SIZE, strict=True))
    images = torch.nn.functional.pad(x, (0, columns, 0, rows)).flip(1)  # blue, green, red
    spread(model, images, maps, CLASSES, -2.5)
    weights = {f"module.{k}": v.clone() for k, v in model.state_dict().items()}
    weights = {k: v for k, v in weights.items() if "num_batches_tracked" not in k}
    with torch.no_grad():
        arrays = run(copy.deepcopy(model).double().eval(), images.double(), valid)
    decoding = {"points": POINTS, "candidates": GROUPS, "most": MOST}
    decoding |= {"point_threshold": THRESHOLD, "centre_threshold": THRESHOLD}
    fields = {
        "num_classes": CLASSES,
        "hourglass_fields": {"dims": DIMS, "num_blocks": BLOCKS, "out_dim": OUT_DIM},
        "head_dim": HEAD_DIM,
        "decoding_fields": decoding,
    }
    write(
        "extremenet_authors",
        {"name": "extremenet_hourglass104", "fields": fields, "source": "extremenet"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
        weights,
    )


def network(
    dims: tuple[int, ...], blocks: tuple[int, ...], out_dim: int, classes: int, stacks: int = 2
) -> torch.nn.Module:
    """Their network with few features; the hidden layers of its heads have as many as the first."""
    utils = keypoint_networks(os.environ["EXTREMENET"])
    code = importlib.import_module("models.ExtremeNet")
    dim = dims[0]
    stem = torch.nn.Sequential(
        utils.convolution(7, 3, dim // 2, stride=2), utils.residual(3, dim // 2, dim, stride=2)
    )
    layers = {name: getattr(code, name) for name in ("make_pool_layer", "make_hg_layer")}
    sizes = len(dims) - 1, stacks, dims, blocks, classes
    return utils.exkp(*sizes, pre=stem, cnv_dim=out_dim, kp_layer=utils.residual, **layers)


def maps(model: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The nine maps of each hourglass: heat of five points, offsets of four."""
    rows, columns = ((side + 1) // 4 for side in images.shape[-2:])
    everywhere = torch.arange(rows * columns)[None].expand(len(images), -1)
    return [
        y if y.ndim == 4 else y.transpose(1, 2).unflatten(-1, (rows, columns))
        for y in model._train(images, *[everywhere] * 4)
    ]


def arranged(outputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The maps under our names, by example, hourglass, point, row and column."""
    arrays = {}
    for name, kinds in (("heat", range(5)), ("offsets", range(5, 9))):
        levels = [torch.stack([outputs[9 * s + i] for i in kinds], dim=1) for s in range(2)]
        arrays[name] = torch.stack(levels, dim=1).permute(0, 1, 2, 4, 5, 3)
    return arrays


def run(
    model: torch.nn.Module, images: torch.Tensor, valid: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Everything that the authors' code computes."""
    outputs = maps(model, images)
    arrays = arranged(outputs)
    rows, columns = outputs[0].shape[-2:]
    height, width = images.shape[-2:]
    ratios = torch.tensor([columns / width, rows / height])
    thresholds = {"scores_thresh": THRESHOLD, "center_thresh": THRESHOLD}
    code = keypoint_networks(os.environ["EXTREMENET"]).kp_utils
    maxima = code._nms  # today's torch wants contiguous maps after it
    with mock.patch.object(code, "_nms", lambda x, kernel: maxima(x.contiguous(), kernel)):
        found = code._exct_decode(
            *[x.clone() for x in outputs[-9:]], K=POINTS, num_dets=GROUPS, **thresholds
        )
    for i, rows_of_image in enumerate(found):
        good = rows_of_image[rows_of_image[:, 4] > 0]
        boxes, points = good[:, :4] / ratios.repeat(2), good[:, 5:13] / ratios.repeat(4)
        one = {"boxes": boxes, "scores": good[:, 4], "labels": good[:, 13].long()}
        one["points"] = points.unflatten(-1, (4, 2))
        arrays |= {f"groups/{i}/{k}": x for k, x in one.items()}
        arrays |= {f"detections/{i}/{k}": x for k, x in detections(one, valid[i]).items()}
    return arrays | losses(model, images, (rows, columns))


def detections(one: dict[str, torch.Tensor], valid: torch.Tensor) -> dict[str, torch.Tensor]:
    """The groups of an image after both suppressions, best first."""
    sides = (int(valid.any(0).sum()), int(valid.any(1).sum())) * 2
    boxes = np.clip(one["boxes"].numpy(), 0, sides)
    kept = soft_suppression(boxes, one["scores"].numpy(), one["labels"].numpy(), MOST)
    boxes, scores, labels = kept
    scores = scores.copy()
    for k in range(len(scores)):
        if scores[k] > 0.2:
            inside = [
                t
                for t in range(len(scores))
                if labels[t] == labels[k]
                and (boxes[t, :2] >= boxes[k, :2]).all()
                and (boxes[t, 2:] <= boxes[k, 2:]).all()
            ]
            if scores[inside].sum() > scores[k] * 3:
                scores[k] /= 2
    order = np.argsort(-scores)
    found = {"boxes": boxes, "scores": scores, "labels": labels}
    return {k: torch.as_tensor(x[order]) for k, x in found.items()}


def polygons() -> list[list[np.ndarray]]:
    """Outlines of the objects of two images: whole pixels, some with a straight upper edge."""
    first = [
        [(8, 12), (20, 2), (30, 14), (28, 30), (12, 30)],
        [(33, 4), (54, 4), (56, 10), (50, 26), (31, 12)],
        [(20, 17), (28, 10), (36, 15), (27, 24)],
    ]
    second = [
        [(5, 20), (18, 10), (32, 33), (10, 40)],
        [(11, 12), (14, 3), (17, 3), (20, 13), (16, 21)],
    ]
    return [[np.array(one, float) for one in image] for image in (first, second)]


def losses(
    model: torch.nn.Module, images: torch.Tensor, shape: tuple[int, int]
) -> dict[str, torch.Tensor]:
    """Their loss, with the extreme points of `polygons`.

    The points are given as masks with a few pixels: those whose outermost ones are the points.
    """
    find = extreme_code()._get_extreme_points
    ratios = shape[1] / images.shape[-1], shape[0] / images.shape[-2]
    draw, outlines = authors_drawing(), polygons()
    b, m = 2, 3
    labels, boxes = np.array([[1, 0, 1], [0, 1, 0]]), np.zeros((b, m, 4))
    points, mask = np.zeros((b, m, 4, 2)), np.zeros((b, m), np.uint8)
    heat = np.zeros((5, b, CLASSES, *shape))
    offsets, index = np.zeros((4, b, m, 2)), np.zeros((4, b, m), np.int64)
    for i, j in itertools.product(range(b), range(m)):
        if j >= len(outlines[i]):
            continue
        outline = outlines[i][j]
        boxes[i, j] = [*outline.min(axis=0), *outline.max(axis=0)]
        points[i, j], mask[i, j] = find(outline), 1
        sides = [int(np.ceil((boxes[i, j, 2 + a] - boxes[i, j, a]) * ratios[a])) for a in range(2)]
        radius = max(0, int(draw.gaussian_radius((sides[1], sides[0]), 0.7)))
        top, left, bottom, right = points[i, j]
        centre = (left[0] + right[0]) / 2, (top[1] + bottom[1]) / 2
        for kind, point in enumerate((top, left, bottom, right, np.array(centre))):
            place = point * ratios
            cell = place.astype(int)
            draw.draw_gaussian(heat[kind][i, labels[i, j]], list(cell), radius)
            if kind < 4:
                offsets[kind, i, j] = place - cell
                index[kind, i, j] = cell[1] * shape[1] + cell[0]
    tensors = [torch.as_tensor(x) for x in (*heat, mask, *offsets)]
    outputs = model._train(images, *[torch.as_tensor(x) for x in index])
    utils = keypoint_networks(os.environ["EXTREMENET"])
    total = utils.CTLoss(focal_loss=utils._neg_loss)([x.clone() for x in outputs], tensors)
    return {
        "targets/boxes": torch.as_tensor(boxes),
        "targets/labels": torch.as_tensor(labels),
        "targets/counts": torch.tensor([len(one) for one in outlines]),
        "targets/points": torch.as_tensor(points),
        "losses/total": total,
        "wanted/heat": torch.as_tensor(heat).permute(1, 0, 3, 4, 2),
    }


def extreme_code() -> types.ModuleType:
    """Their function for polygons, in `tools/gen_coco_extreme_points.py`."""
    code = types.ModuleType("gen_coco_extreme_points")
    text = (Path(os.environ["EXTREMENET"]) / "tools/gen_coco_extreme_points.py").read_text()
    start = text.index("def _get_extreme_points")
    vars(code)["np"] = np
    exec(text[start : text.index("if __name__")], vars(code))
    return code


def models() -> dict[str, torch.nn.Module]:
    """The peer's models for our names."""
    nano = network((64, 96, 128), (1, 1, 1), 64, 80, stacks=1)
    for kind in (*KINDS, "ct"):
        for part in ("heats", "regrs")[: 1 if kind == "ct" else 2]:
            heads = getattr(nano, f"{kind}_{part}")
            conv, last = heads[0][0].conv, heads[0][1]
            heads[0][0].conv = torch.nn.Conv2d(conv.in_channels, 48, 3)
            heads[0][1] = torch.nn.Conv2d(48, last.out_channels, 1)
    code = importlib.import_module("models.ExtremeNet")
    return {"extremenet_hourglass104": code.model(None), "extremenet_nano": nano}
