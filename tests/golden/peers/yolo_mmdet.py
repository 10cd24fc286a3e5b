"""A golden of YOLO v3, made by mmdet 3.3; `faster_rcnn_mmdet` says what it needs."""

import copy
import sys
from unittest import mock

import torch

from peers.checkouts import mmdet_whole
from peers.dense import CLASSES, nms
from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn import batch_of
from peers.faster_rcnn_mmdet import configuration

CONFIG = "yolo/yolov3_d53_8xb8-ms-608-273e_coco.py"
BLOCKS = (1, 1, 2, 1, 1)
DIMS = (8, 8, 8, 12, 16)  # of the stages; mmdet fixes the 32 before them
NECK = (12, 8, 8)


def goldens() -> None:
    """A narrow network on images whose sides are not multiples of 32."""
    model = narrow_model()
    x, valid = padded_batch(60, 62)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    precise = copy.deepcopy(model).double().eval()
    arrays = run(precise, batch_of(x.double(), valid))
    dims = [32]
    for count, dim in zip(BLOCKS, DIMS, strict=True):
        dims += [dim, *[dim // 2, dim] * count]
    body = {
        "num_convs": [1, *(1 + 2 * count for count in BLOCKS)],
        "conv_dims": dims,
        "conv_sizes": [3, *(size for count in BLOCKS for size in (3, *(1, 3) * count))],
    }
    fields = {
        "num_classes": CLASSES,
        "backbone_fields": body,
        "neck_dims": NECK[::-1],
        "decoding_fields": {
            "classes_first": True,
            "score_threshold": 0.3,
            "object_threshold": 0.2,
            "candidates": 60,
            "most": 200,
        },
    }
    write(
        "yolov3_mmdet",
        {"name": "yolov3", "fields": fields, "source": "mmdet"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
        weights,
        tolerance=1e-4,  # of outputs near 1; the peer computes in float64
    )


def narrow_model() -> torch.nn.Module:
    """The published configuration with few features and blocks, and drawn weights."""
    mmdet, settings = mmdet_whole(), configuration(CONFIG)
    settings.neck.update(in_channels=list(DIMS[:1:-1]), out_channels=list(NECK))
    settings.bbox_head.update(
        in_channels=list(NECK), out_channels=[2 * dim for dim in NECK], num_classes=CLASSES
    )
    settings.test_cfg.update(score_thr=0.3, conf_thr=0.2, nms_pre=60, max_per_img=200)
    pairs = tuple(zip((32, *DIMS[:-1]), DIMS, strict=True))
    kind = mmdet.models.Darknet
    with mock.patch.object(kind, "arch_settings", {53: (BLOCKS, pairs)}):
        model = mmdet.registry.MODELS.build(settings).eval()
    draw_weights(model)
    return model


@torch.no_grad()
def draw_weights(model: torch.nn.Module) -> None:
    """Random weights, norms and statistics, and outputs near 1."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.ndim == 4:
            tensor.normal_(0.0, (1.5 / tensor[0].numel()) ** 0.5)
        elif name.endswith("bn.weight"):
            tensor.uniform_(0.5, 1.25)
        elif tensor.is_floating_point():
            tensor.normal_(0.0, 0.2)
        if tensor.is_floating_point():
            tensor.mul_(32).round_().div_(32)  # compresses well
    (levels,) = model.bbox_head(model.extract_feat(torch.randn(2, 3, 64, 64)))
    for conv, level in zip(model.bbox_head.convs_pred, levels, strict=True):
        conv.weight.div_(level.std())
        conv.bias.div_(level.std())


@torch.no_grad()
def run(model: torch.nn.Module, batch) -> dict[str, torch.Tensor]:
    """All parts of a model's outputs, detections and losses, under our names."""
    from mmengine.structures import InstanceData

    metas = [{"img_shape": size, "scale_factor": (1.0, 1.0)} for size in batch.image_sizes]
    images, head = batch.tensors, model.bbox_head
    rows, columns = (-side % 32 for side in images.shape[2:])
    images = torch.nn.functional.pad(images, (0, columns, 0, rows))
    (levels,) = head(model.extract_feat(images))
    flat = torch.cat(
        [x.permute(0, 2, 3, 1).reshape(len(x), -1, 5 + CLASSES).clone() for x in reversed(levels)],
        dim=1,
    )
    sizes = [x.shape[-2:] for x in levels]
    priors = torch.cat(head.prior_generator.grid_priors(sizes, device="cpu")[::-1])
    arrays = {
        "deltas": flat[..., :4],
        "objectness": flat[..., 4],
        "logits": flat[..., 5:],
        "anchors/all": priors,
    }
    operators = sys.modules["mmcv._ext"]
    with mock.patch.object(operators, "nms", lambda *x, offset, **y: nms(*x, **y)):
        found = head.predict_by_feat([x.clone() for x in levels], metas, rescale=False)
    for i, one in enumerate(found):
        height, width = batch.image_sizes[i]
        limits = torch.tensor([width, height, width, height])
        one.bboxes = one.bboxes.clamp(min=0).minimum(limits)  # mmdet does not clip them
        one = one[(one.bboxes[:, 2:] > one.bboxes[:, :2]).all(dim=1)]
        arrays |= {f"detections/{i}/{key}": one[key] for key in ("scores", "labels")}
        arrays[f"detections/{i}/boxes"] = one.bboxes
    # The first two objects share a cell of the coarsest grid, in which anchors overlap both.
    boxes = torch.tensor(
        [
            [[4.0, 6, 60, 44], [2, 8, 40, 42], [50, 30, 60, 43]],
            [[5, 10, 38, 58], [0, 0, 0, 0], [0, 0, 0, 0]],
        ]
    )
    labels, numbers = torch.tensor([[1, 4, 0], [2, 0, 0]]), (3, 1)
    objects = [
        InstanceData(bboxes=boxes[i, :n], labels=labels[i, :n]) for i, n in enumerate(numbers)
    ]
    losses = head.loss_by_feat([x.float() for x in levels], objects, metas)  # only in float32
    return {
        **arrays,
        "targets/boxes": boxes,
        "targets/labels": labels,
        "targets/counts": torch.tensor(numbers),
        **{f"losses/{name}": sum(values) for name, values in losses.items()},
    }
