"""Goldens of the array functions of region detectors, made by torchvision."""

import numpy as np
import torch
from torchvision.models.detection import _utils, roi_heads
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, box_iou, poolers, roi_align

from peers.draws import HERE


def draw(*shape: int) -> torch.Tensor:
    """Random values that are multiples of 1 / 16."""
    return torch.randn(shape).mul(16).round().div(16)


def draw_boxes(n: int, height: int, width: int, beyond: float = 0.3) -> torch.Tensor:
    """Random boxes of multiples of 1 / 4 of a pixel; some extend beyond the image."""
    size = torch.tensor([width, height])
    centre = (torch.rand(n, 2) * (1 + beyond) - beyond / 2) * size
    half = torch.rand(n, 2) ** 2 * size / 2 + 0.5
    return torch.cat([centre - half, centre + half], dim=1).mul(4).round().div(4)


def goldens() -> None:
    """Writes `roi_torchvision.npz`; the names of its arrays begin with the part that they test."""
    parts = {
        "anchors": anchors(),
        "coder": coder(),
        "assign": assign(),
        "levels": levels(),
        "pyramid": pyramid(),
        "align": align(),
        "paste": paste(),
        "targets": mask_targets(),
        "keypoints": keypoints(),
    }
    arrays = {
        f"{part}/{name}": np.asarray(x.detach() if isinstance(x, torch.Tensor) else x)
        for part, found in parts.items()
        for name, x in found.items()
    }
    np.savez_compressed(HERE / "roi_torchvision.npz", **arrays)


def anchors() -> dict:
    """Anchors of a RetinaNet on a padded image whose size is not a multiple of all strides."""
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128))
    generator = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 3)
    grids = ((7, 10), (4, 5), (2, 3))
    maps = [torch.zeros(1, 1, *grid) for grid in grids]
    found = generator(ImageList(torch.zeros(1, 3, 224, 320), [(224, 320)]), maps)[0]
    return {"sizes": np.array(sizes), "grids": np.array(grids), "image": (224, 320), "boxes": found}


def coder() -> dict:
    """Deltas of drawn boxes, and the boxes of drawn deltas, some beyond the clamp."""
    boxes, start = draw_boxes(20, 60, 80), draw_boxes(20, 60, 80)
    deltas = draw(20, 4) * torch.tensor([10.0, 10.0, 25.0, 25.0])
    peer = _utils.BoxCoder((10.0, 10.0, 5.0, 5.0))
    return {
        "boxes": boxes,
        "anchors": start,
        "encoded": peer.encode_single(boxes, start),
        "deltas": deltas,
        "decoded": peer.decode_single(deltas, start),
    }


def assign() -> dict:
    """Matches of anchors with objects; two objects are equal, so that there are ties."""
    candidates, truth = draw_boxes(200, 60, 80), draw_boxes(6, 60, 80, beyond=0)
    truth[4] = truth[1]
    candidates[150:160] = candidates[10:20]
    ious = box_iou(truth, candidates)
    return {
        "candidates": candidates,
        "truth": truth,
        "none": _utils.Matcher(0.5, 0.3)(ious),
        "ties": _utils.Matcher(0.7, 0.3, allow_low_quality_matches=True)(ious),
        "best": _utils.SSDMatcher(0.5)(ious),
    }


def levels() -> dict:
    """Levels of boxes, some of which are exactly between two levels."""
    sides = torch.tensor([1.0, 56, 111.75, 112, 112.25, 223.75, 224, 448, 447.75, 896, 2000])
    squares = torch.stack([0 * sides, 0 * sides, sides, sides], dim=1)
    boxes = torch.cat([squares, draw_boxes(40, 900, 1300)])
    return {"boxes": boxes, "levels": poolers.LevelMapper(2, 5)([boxes])}


def pyramid() -> dict:
    """Boxes of two images, pooled from three maps."""
    maps = {str(i): draw(2, 3, 40 // 2**i, 56 // 2**i) for i in range(3)}
    boxes = [draw_boxes(12, 160, 224), draw_boxes(12, 160, 224)]
    pool = MultiScaleRoIAlign(["0", "1", "2"], 7, 2, canonical_scale=56)
    with torch.no_grad():
        pooled = pool(maps, boxes, [(160, 224), (160, 224)])
    return {
        **{f"map{i}": x.permute(0, 2, 3, 1) for i, x in maps.items()},
        "boxes": torch.stack(boxes),
        "pooled": pooled.permute(0, 2, 3, 1).reshape(2, 12, 7, 7, 3),
    }


def align() -> dict:
    """RoIAlign of one map in all forms, with gradients."""
    features = draw(1, 2, 13, 18).requires_grad_()
    boxes, gradient = draw_boxes(16, 104, 144, beyond=0.6), draw(16, 2, 4, 4)
    found = {
        "features": features.permute(0, 2, 3, 1),
        "boxes": boxes[None],
        "gradient": gradient.permute(0, 2, 3, 1)[None],
    }
    for aligned in (False, True):
        for ratio in (0, 2, 3):
            pooled = roi_align(features, [boxes], 4, 1 / 8, ratio, aligned)
            (back,) = torch.autograd.grad((pooled * gradient).sum(), features)
            name = f"{aligned:d}{ratio}"
            found[f"pooled{name}"] = pooled.permute(0, 2, 3, 1)[None]
            found[f"back{name}"] = back.permute(0, 2, 3, 1)
    return found


def paste() -> dict:
    """Masks of objects, pasted into an image."""
    masks = torch.rand(6, 7, 7).mul(16).round().div(16)
    boxes = torch.cat([draw_boxes(5, 24, 30, beyond=0), torch.tensor([[3.25, 4.5, 3.5, 4.75]])])
    pasted = roi_heads.paste_masks_in_image(masks[:, None], boxes, (24, 30))[:, 0]
    return {"masks": masks, "boxes": boxes, "pasted": pasted}


def mask_targets() -> dict:
    """True masks of the objects that proposals are matched with."""
    bitmaps = torch.nn.functional.interpolate(torch.randn(3, 1, 6, 8), (40, 50))[:, 0] > 0
    boxes, match = draw_boxes(10, 40, 50), torch.randint(0, 3, (10,))
    targets = roi_heads.project_masks_on_boxes(bitmaps, boxes, match, 14)
    return {"bitmaps": bitmaps, "boxes": boxes, "match": match, "targets": targets}


def keypoints() -> dict:
    """Targets of keypoints, and keypoints of heat maps; some boxes are below a pixel."""
    boxes = torch.cat([draw_boxes(7, 90, 120), torch.tensor([[3.25, 4.5, 3.5, 90.75]])])
    points = torch.rand(8, 5, 2) * (boxes[:, None, 2:] - boxes[:, None, :2]) * 1.2
    points = (points + boxes[:, None, :2]).mul(4).round().div(4)
    points[:, 0], points[:, 1] = boxes[:, 2:], boxes[:, :2]
    visible = torch.randint(0, 3, (8, 5, 1))
    truth = torch.cat([points, visible], dim=2)
    cells, valid = roi_heads.keypoints_to_heatmap(truth, boxes, 56)
    maps = draw(8, 5, 14, 14)
    found, scores = roi_heads.heatmaps_to_keypoints(maps, boxes)
    return {
        "boxes": boxes,
        "truth": truth,
        "cells": cells,
        "valid": valid,
        "heatmaps": maps.permute(0, 2, 3, 1),
        "points": found[..., :2],
        "scores": scores,
    }
