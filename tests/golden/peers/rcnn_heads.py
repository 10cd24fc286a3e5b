"""Shared by the goldens of detectors with a further head on Faster R-CNN, made by torchvision."""

import copy
from collections.abc import Callable
from unittest import mock

import torch
from torchvision.models.detection import FasterRCNN
from torchvision.ops import MultiScaleRoIAlign

from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn import batch_of, draw_weights, run, truth

MOST = 6  # detections of an image
BOXES, LABELS, COUNTS = truth()


def pooling() -> MultiScaleRoIAlign:
    """torchvision's pooling for masks and keypoints."""
    return MultiScaleRoIAlign(["0", "1", "2", "3"], 14, 2)


def scale_head(model: FasterRCNN, x: torch.Tensor, valid: torch.Tensor) -> None:
    """Scales the further head so that its logits differ from cell to cell and region to region.

    The first layer makes up for the small differences in the pooled features.
    """
    heads = model.roi_heads
    if heads.has_mask():
        pool, parts = heads.mask_roi_pool, (heads.mask_head, heads.mask_predictor)
        last = heads.mask_predictor.mask_fcn_logits
    else:
        pool, parts = heads.keypoint_roi_pool, (heads.keypoint_head, heads.keypoint_predictor)
        last = heads.keypoint_predictor.kps_score_lowres
    layers = torch.nn.Sequential(*parts)
    with torch.no_grad():
        batch = batch_of(x, valid)
        maps = model.backbone(batch.tensors)
        proposals, _ = model.rpn(batch, maps)
        boxes = [one["boxes"] for one in model.roi_heads(maps, proposals, batch.image_sizes)[0]]
        pooled = pool(maps, boxes, batch.image_sizes)
        first = next(x for x in layers.modules() if isinstance(x, torch.nn.Conv2d))
        first.weight.div_(pooled.std(dim=(2, 3)).mean())
        logits = layers(pooled)
        means = logits.mean(dim=(0, 2, 3))
        factor = 3 / (logits - means[:, None, None]).std()
        last.weight.mul_(factor)
        last.bias.copy_(0.5 * torch.randn(len(means)) + factor * (last.bias - means))
        if heads.has_mask():
            for parameter in last.parameters():
                parameter[:1] = 0  # the background's mask, which nothing uses: we write zeros


def save(
    case: str,
    name: str,
    model: FasterRCNN,
    ours: dict,
    size: tuple[int, int],
    truth: dict[str, torch.Tensor],
    paste: Callable[..., torch.Tensor] | None = None,
) -> None:
    """Writes the golden of a model with its losses; the peer computes in float64.

    Args:
        case: Name of the file.
        name: Name of our model.
        model: The peer.
        ours: Fields of our model.
        size: Height and width of the batch.
        truth: Further targets, ``[b m ...]``, and ``labels``.
        paste: Resamples masks to the image: a function of boxes, masks and the image's size.
    """
    x, valid = padded_batch(*size)
    draw_weights(model, x)
    scale_head(model, x, valid)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    precise = copy.deepcopy(model).double().eval()
    arrays = run(precise, x.double(), valid)
    arrays |= found(precise, x.double(), valid)
    if paste:
        for i, one in enumerate(valid):
            boxes, masks = (arrays[f"detections/{i}/{key}"] for key in ("boxes", "masks"))
            sides = int(one.any(1).sum()), int(one.any(0).sum())
            arrays[f"detections/{i}/pasted"] = paste(boxes, masks, sides)
    arrays |= training(precise, x.double(), valid, truth)
    write(
        case,
        {"name": name, "fields": ours, "source": "torchvision"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
        weights,
    )


@torch.no_grad()
def found(model: FasterRCNN, x: torch.Tensor, valid: torch.Tensor) -> dict[str, torch.Tensor]:
    """The detections with what the further head finds in them; labels are ours."""
    batch = batch_of(x, valid)
    maps = model.backbone(batch.tensors)
    proposals, _ = model.rpn(batch, maps)
    detections, _ = model.roi_heads(maps, proposals, batch.image_sizes)
    return {
        f"detections/{i}/{key}": value - 1 if key == "labels" else value
        for i, one in enumerate(detections)
        for key, value in one.items()
    }


def training(
    model: FasterRCNN, x: torch.Tensor, valid: torch.Tensor, truth: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The losses; the sampler takes the first candidates instead of random ones."""
    targets = [
        {"boxes": BOXES[i, :n].double(), **{key: value[i, :n] for key, value in truth.items()}}
        for i, n in enumerate(COUNTS)
    ]
    for one in targets:
        one["labels"] = one["labels"] + 1
    batch = batch_of(x, valid)
    model.train()
    with mock.patch("torch.randperm", lambda n, **_: torch.arange(n)):
        maps = model.backbone(batch.tensors)
        proposals, first = model.rpn(batch, maps, targets)
        _, second = model.roi_heads(maps, proposals, batch.image_sizes, targets)
    return {
        "targets/boxes": BOXES,
        "targets/counts": torch.tensor(COUNTS),
        **{f"targets/{key}": value for key, value in truth.items()},
        **{f"losses/{key}": value.detach() for key, value in {**first, **second}.items()},
    }
