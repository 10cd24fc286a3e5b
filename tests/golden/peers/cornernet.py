"""Goldens of CornerNet, made by the authors' code.

It needs a checkout of princeton-vl/CornerNet, $CORNERNET. `cornernet_mmdet` and `extremenet` use
its functions.
"""

import copy
import os
import types
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from peers.checkouts import keypoint_networks
from peers.detr import padded_batch
from peers.draws import randomise, write

CLASSES, CORNERS, PAIRS, MOST = 2, 20, 150, 12
DIMS, BLOCKS, OUT_DIM, POOL_DIM, HEAD_DIM = (6, 8, 8), (1, 2, 1), 8, 4, 6
SIZE = (45, 60)  # padded to one pixel less than multiples of 16
PADDED = (47, 63)


def goldens() -> None:
    """A narrow network."""
    save("cornernet_authors", "cornernet", authors_network(), BLOCKS, run_authors)


def save(
    case: str,
    source: str,
    model: torch.nn.Module,
    blocks: tuple[int, ...],
    run: Callable[[torch.nn.Module, torch.Tensor], dict[str, torch.Tensor]],
) -> None:
    """Writes a golden; `run` gives the peer's maps, pairs and losses for a padded batch."""
    x, valid = padded_batch(*SIZE)
    rows, columns = (new - old for new, old in zip(PADDED, SIZE, strict=True))
    images = torch.nn.functional.pad(x, (0, columns, 0, rows))
    if source == "cornernet":
        images = images.flip(1)  # blue, green, red
    spread(randomise(model), images, maps, CLASSES)
    counters = "num_batches_tracked" if source == "cornernet" else "none"  # one file has them
    weights = {k: v.clone() for k, v in model.state_dict().items() if counters not in k}
    prefix = "module." if source == "cornernet" else ""
    with torch.no_grad():
        arrays = run(copy.deepcopy(model).double().eval(), images.double())
    write(
        case,
        {
            "name": "cornernet_hourglass104",
            "fields": {
                "num_classes": CLASSES,
                "hourglass_fields": {"dims": DIMS, "num_blocks": blocks, "out_dim": OUT_DIM},
                "decoding_fields": {"corners": CORNERS, "candidates": PAIRS, "most": MOST},
                "pool_dim": POOL_DIM,
                "head_dim": HEAD_DIM,
            },
            "source": source,
        },
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
        {prefix + name: value for name, value in weights.items()},
    )


@torch.no_grad()
def spread(
    model: torch.nn.Module,
    images: torch.Tensor,
    maps: Callable[[torch.nn.Module, torch.Tensor], object],
    most: int,
    start: float = -1.0,
) -> None:
    """Scales the maps so that boxes and scores differ, and some embeddings are near to others.

    Args:
        model: With drawn weights.
        images: Which the scales are for.
        maps: Runs the network.
        most: Largest number of features of a last layer.
        start: Mean logit of the heat maps.
    """
    lively(model, images, maps)
    found, convs = {}, {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d) and module.out_channels <= most:
            convs[name] = module
            module.register_forward_hook(lambda _, __, y, name=name: found.update({name: y}))
    maps(model, images)
    for name, conv in convs.items():
        conv._forward_hooks.clear()
        heat = "heat" in name
        scale = (1.5 if heat else 0.4) / found[name].std()
        middle = found[name].mean(dim=(0, 2, 3))
        conv.bias.copy_((conv.bias - middle) * scale + start * float(heat))
        conv.weight.mul_(scale)


@torch.no_grad()
def lively(
    model: torch.nn.Module,
    images: torch.Tensor,
    maps: Callable[[torch.nn.Module, torch.Tensor], object],
) -> None:
    """Statistics and scales with which the last maps still depend on the images."""
    norms = [x for x in model.modules() if isinstance(x, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.add_(norm.weight.mean() < 0.5)  # drawn ones, whose mean is 0
        norm.momentum = 1.0
    model.train()
    maps(model, images)
    model.eval()
    for norm in norms:
        norm.momentum = 0.1
        norm.running_mean.mul_(torch.empty_like(norm.running_mean).uniform_(0.8, 1.2))
        norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.7, 1.5))


def maps(model: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The six maps of each hourglass: heat, tags and offsets, each of both corners."""
    if hasattr(model, "bbox_head"):
        outputs = model.bbox_head(model.backbone(images))
        return [level for levels in zip(*outputs, strict=True) for level in levels]
    cells = images.shape[-2] * images.shape[-1]
    everywhere = torch.arange(cells // 4)[None].expand(len(images), -1)
    rows, columns = ((side + 1) // 4 for side in images.shape[-2:])
    everywhere = everywhere[:, : rows * columns]
    outputs = model._train(images, everywhere, everywhere)
    return [y if y.ndim == 4 else y.transpose(1, 2).unflatten(-1, (rows, columns)) for y in outputs]


def arranged(outputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The maps under our names, by example, hourglass, corner, row and column."""
    found = {}
    for i, name in enumerate(("heat", "tags", "offsets")):
        levels = [
            torch.stack([outputs[6 * s + 2 * i + corner] for corner in range(2)], dim=1)
            for s in range(len(outputs) // 6)
        ]
        found[name] = torch.stack(levels, dim=1).permute(0, 1, 2, 4, 5, 3)
    return found | {"tags": found["tags"][..., 0]}


def truth() -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """Three objects in the first image and two in the second; no two corners share a cell."""
    boxes = torch.tensor(
        [
            [[8.0, 2, 30.25, 30], [30, 4, 57, 26], [20.5, 10, 36, 24]],
            [[5, 10, 32, 40.5], [11, 3, 20.5, 21], [0, 0, 0, 0]],
        ]
    )
    return boxes, torch.tensor([[1, 0, 1], [0, 1, 0]]), (3, 2)


def soft_suppression(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, most: int):
    """Soft suppression within classes, one box after the other; sigma 0.5."""
    scores, rest, order = scores.copy(), list(range(len(scores))), []
    while rest:
        best = max(rest, key=lambda i: scores[i])
        rest.remove(best)
        order.append(best)
        for i in rest:
            if labels[i] != labels[best]:
                continue
            low = np.maximum(boxes[i, :2], boxes[best, :2])
            common = np.maximum(np.minimum(boxes[i, 2:], boxes[best, 2:]) - low, 0).prod()
            areas = [(boxes[j, 2:] - boxes[j, :2]).prod() for j in (i, best)]
            scores[i] *= np.exp(-((common / max(sum(areas) - common, 1e-9)) ** 2) / 0.5)
    order = [i for i in sorted(order, key=lambda i: -scores[i]) if scores[i] > 1e-3][:most]
    return boxes[order], scores[order], labels[order]


def found_objects(
    boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The pairs of all images, and the detections that they become after the suppression.

    Args:
        boxes: In pixels, of each image.
        scores: -1 for pairs that do not belong together.
        labels: Of the pairs.
        valid: The real pixels, to which boxes are clipped.
    """
    arrays = {}
    for i in range(len(boxes)):
        good = scores[i] > -1
        one = {"boxes": boxes[i][good], "scores": scores[i][good], "labels": labels[i][good]}
        arrays |= {f"pairs/{i}/{k}": x for k, x in one.items()}
        sides = (int(valid[i].any(0).sum()), int(valid[i].any(1).sum())) * 2
        clipped = np.clip(one["boxes"].numpy(), 0, sides)
        kept = soft_suppression(clipped, one["scores"].numpy(), one["labels"].numpy(), MOST)
        for k, x in zip(one, kept, strict=True):
            arrays[f"detections/{i}/{k}"] = torch.as_tensor(x)
    return arrays


def authors_network() -> torch.nn.Module:
    """The authors' network with few features."""
    utils = keypoint_networks(os.environ["CORNERNET"])
    code = authors_code(POOL_DIM)
    dim = DIMS[0]
    stem = torch.nn.Sequential(
        utils.convolution(7, 3, dim // 2, stride=2), utils.residual(3, dim // 2, dim, stride=2)
    )
    names = ("make_tl_layer", "make_br_layer", "make_pool_layer", "make_hg_layer")
    layers = {name: getattr(code, name) for name in names} | {"kp_layer": utils.residual}
    depth = len(DIMS) - 1
    return utils.kp(depth, 2, DIMS, BLOCKS, CLASSES, pre=stem, cnv_dim=OUT_DIM, **layers)


def authors_code(pool_dim: int = 128) -> types.ModuleType:
    """Their `models/CornerNet.py`, in which the number of features of the pools is replaced."""
    keypoint_networks(os.environ["CORNERNET"])
    code = types.ModuleType("models.CornerNet")
    code.__package__ = "models"
    text = (Path(os.environ["CORNERNET"]) / "models/CornerNet.py").read_text()
    exec(text.replace("128", str(pool_dim)), vars(code))
    return code


def run_authors(model: torch.nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Everything that the authors' code computes."""
    utils = keypoint_networks(os.environ["CORNERNET"])
    outputs = maps(model, images)
    rows, columns = outputs[0].shape[-2:]
    settings = {"K": CORNERS, "kernel": 3, "ae_threshold": 0.5, "num_dets": PAIRS}
    found = model._decode(*[x.clone() for x in outputs[-6:]], **settings)
    height, width = images.shape[-2:]
    boxes = found[..., :4] / torch.tensor([columns / width, rows / height] * 2)
    valid = padded_valid()
    arrays = arranged(outputs) | found_objects(boxes, found[..., 4], found[..., 7].long(), valid)
    boxes, labels, counts = truth()
    wanted = authors_targets(boxes, labels, counts, (rows, columns), (height, width))
    index = [wanted.pop("tl_index"), wanted.pop("br_index")]
    outputs = model._train(images, *index)
    loss = authors_code().loss
    total = loss([x.clone() for x in outputs], list(wanted.values()))
    pull = push = 0.0
    for tl, br in zip(outputs[2::6], outputs[3::6], strict=True):
        parts = utils.kp_utils._ae_loss(tl, br, wanted["mask"])
        pull, push = pull + parts[0] / 2, push + parts[1] / 2
    return arrays | {
        "targets/boxes": boxes,
        "targets/labels": labels,
        "targets/counts": torch.tensor(counts),
        "losses/total": total,
        "losses/pull": pull,
        "losses/push": push,
        **{f"wanted/{k}": wanted[f"{k}_heat"].permute(0, 2, 3, 1) for k in ("tl", "br")},
    }


def padded_valid() -> torch.Tensor:
    """The real pixels of the batch."""
    return padded_batch(*SIZE)[1]


def authors_targets(
    boxes: torch.Tensor,
    labels: torch.Tensor,
    counts: tuple[int, int],
    shape: tuple[int, int],
    size: tuple[int, int],
) -> dict[str, torch.Tensor]:
    """The targets by the authors' functions, in the order in which their loss takes them.

    Args:
        boxes: Of the objects.
        labels: Of the objects.
        counts: Number of objects of each image.
        shape: Height and width of the maps.
        size: Height and width of the images.
    """
    draw = authors_drawing()
    ratios = shape[1] / size[1], shape[0] / size[0]
    b, m = labels.shape
    wanted = {
        **{f"{k}_heat": np.zeros((b, CLASSES, *shape)) for k in ("tl", "br")},
        "mask": np.zeros((b, m), np.uint8),
        **{f"{k}_offset": np.zeros((b, m, 2)) for k in ("tl", "br")},
        **{f"{k}_index": np.zeros((b, m), np.int64) for k in ("tl", "br")},
    }
    for i, count in enumerate(counts):
        wanted["mask"][i, :count] = True
        for j in range(count):
            box, label = boxes[i, j].numpy().astype(float), int(labels[i, j])
            sides = [int(np.ceil((box[2 + a] - box[a]) * ratios[a])) for a in range(2)]
            radius = max(0, int(draw.gaussian_radius((sides[1], sides[0]), 0.3)))
            for k, corner in (("tl", box[:2]), ("br", box[2:])):
                place = corner * ratios
                cell = place.astype(int)
                draw.draw_gaussian(wanted[f"{k}_heat"][i, label], list(cell), radius)
                wanted[f"{k}_offset"][i, j] = place - cell
                wanted[f"{k}_index"][i, j] = cell[1] * shape[1] + cell[0]
    return {name: torch.as_tensor(x) for name, x in wanted.items()}


def authors_drawing() -> types.ModuleType:
    """Their `sample/utils.py`."""
    code = types.ModuleType("sample_utils")
    with mock.patch.dict("sys.modules", {"cv2": mock.MagicMock()}):
        exec((Path(os.environ["CORNERNET"]) / "sample/utils.py").read_text(), vars(code))
    return code


def models() -> dict[str, torch.nn.Module]:
    """The authors' model for our name."""
    return {"cornernet_hourglass104": authors_code().model(None)}
