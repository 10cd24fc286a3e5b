"""Goldens of RetinaNet and FCOS, made by mmdet 3.3; `faster_rcnn_mmdet` says what they need."""

import copy
import sys
from unittest import mock

import torch

from peers.checkouts import mmdet_whole
from peers.dense import CLASSES, DECODING, nms, wide_truth
from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn import batch_of, truth
from peers.faster_rcnn_detectron2 import STAGES, divide
from peers.faster_rcnn_mmdet import configuration

STRIDES = [8 * 2**i for i in range(5)]
SIZES = [[4 * stride * 2 ** (k / 3) for k in range(3)] for stride in STRIDES]
FIRST = "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py"
SECOND = "fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py"
RETINANET = "retinanet/retinanet_r50_fpn_1x_coco.py"


def goldens() -> None:
    """RetinaNet; FCOS of the first paper, and of the second one, which is larger."""
    decoding = {
        "score_threshold": DECODING["score_thresh"],
        "candidates": DECODING["topk_candidates"],
        "most": DECODING["detections_per_img"],
        "drop_empty": True,
    }
    ours = {
        "extra_relu": False,
        "anchor_fields": {"sizes": SIZES, "strides": STRIDES},
        "decoding_fields": decoding,
    }
    path = RETINANET
    save("retinanet_mmdet", "retinanet_resnet50_fpn_c5", path, 8, ours, (60, 62), truth())

    ours = {"decoding_fields": {**decoding, "centerness": "after"}}
    path, name = FIRST, "fcos_resnet50_caffe_fpn"
    save("fcos_mmdet", name, path, 32, ours, (60, 62), truth())
    path, name = SECOND, "fcos_imprv_resnet50_caffe_fpn"
    ours["decoding_fields"]["iou_threshold"] = 0.6
    save("fcos_mmdet_second", name, path, 32, ours, (70, 100), wide_truth())


def save(
    case: str,
    name: str,
    config: str,
    dim: int,
    ours: dict,
    size: tuple[int, int],
    truth: tuple[torch.Tensor, torch.Tensor, tuple[int, int]],
) -> None:
    """Writes a golden of a narrow model with two convolutions in a tower, for FCOS one.

    Args:
        case: Name of the file.
        name: Name of our model.
        config: Path of mmdet's configuration.
        dim: Features of the pyramid.
        ours: Fields of our model.
        size: Height and width of the batch.
        truth: Boxes, labels, and numbers of objects.
    """
    convs, caffe = (1 if "fcos" in case else 2), "caffe" in config
    model = narrow_model(config, dim, convs)
    x, valid = padded_batch(*size)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    precise = copy.deepcopy(model).double().eval()
    batch = batch_of((x[:, [2, 1, 0]] if caffe else x).double(), valid)
    arrays = run(precise, batch, truth)
    body = {"num_blocks": [1, 1, 1, 1], "stage_dims": STAGES, "stem_dim": 4}
    fields = {
        "num_classes": CLASSES,
        "backbone_fields": {**body, "stride_in_1x1": True} if caffe else body,
        "pyramid_dim": dim,
        "num_convs": convs,
        **ours,
    }
    write(
        case,
        {"name": name, "fields": fields, "source": "mmdet"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
        weights,
    )


def narrow_model(path: str, dim: int, convs: int) -> torch.nn.Module:
    """A published configuration with few features, one block in each stage, and drawn weights."""
    mmdet, settings = mmdet_whole(), configuration(path)
    settings.backbone.update(base_channels=STAGES[0])
    settings.neck.update(in_channels=[4 * x for x in STAGES], out_channels=dim)
    settings.bbox_head.update(
        in_channels=dim, feat_channels=dim, stacked_convs=convs, num_classes=CLASSES
    )
    settings.test_cfg.update(
        score_thr=DECODING["score_thresh"],
        nms_pre=DECODING["topk_candidates"],
        max_per_img=DECODING["detections_per_img"],
    )
    kind = mmdet.models.ResNet
    blocks, kind.arch_settings = kind.arch_settings, {50: (kind.arch_settings[50][0], [1] * 4)}
    model = mmdet.registry.MODELS.build(settings).eval()
    kind.arch_settings = blocks
    draw_weights(model)
    return model


@torch.no_grad()
def draw_weights(model: torch.nn.Module) -> None:
    """Random weights and statistics, and outputs near 1."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif ".scales." in name:
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point():
            tensor.normal_(0.0, 0.2).mul_(16).round_().div_(16)  # compresses well
    head, maps = model.bbox_head, model.extract_feat(torch.randn(2, 3, 64, 64))
    spread = torch.cat([x.flatten() for x in maps]).std()
    for conv in model.neck.fpn_convs[:3]:
        conv.conv.weight.div_(spread)
        conv.conv.bias.div_(spread)
    maps = model.extract_feat(torch.randn(2, 3, 64, 64))
    outputs = head(maps)
    classes = getattr(head, "retina_cls", None) or head.conv_cls
    divide(classes, list(outputs[0]), 1.5)
    classes.bias.sub_(1.0)
    if hasattr(head, "retina_reg"):
        divide(head.retina_reg, list(outputs[1]), 0.3)
        return
    divide(head.conv_centerness, list(outputs[2]), 1.0)
    for parameter in head.conv_reg.parameters():
        parameter.div_(parameter.abs().max())  # exponentials stay near the sizes of the objects
    head.conv_reg.weight.mul_(0.1)
    head.conv_reg.bias.abs_().add_(2.0 if not head.norm_on_bbox else 1.0)


@torch.no_grad()
def run(model: torch.nn.Module, batch, truth: tuple) -> dict[str, torch.Tensor]:
    """All parts of a model's outputs, detections and losses, under our names."""
    from mmengine.structures import InstanceData

    metas = [{"img_shape": size, "scale_factor": (1.0, 1.0)} for size in batch.image_sizes]
    maps, head = model.extract_feat(batch.tensors), model.bbox_head
    outputs = head(maps)
    count = len(batch.tensors)
    head.train()  # it multiplies distances by the stride only in evaluation
    distances = head(maps)[1]
    head.eval()
    flat = [
        torch.cat(
            [
                x.unflatten(1, (-1, size)).permute(0, 3, 4, 1, 2).reshape(count, -1, size)
                for x in levels
            ],
            dim=1,
        )
        for levels, size in zip(
            (outputs[0], distances, *outputs[2:]), (CLASSES, 4, 1), strict=False
        )
    ]
    arrays = {"logits": flat[0], "deltas": flat[1]}
    arrays |= {f"maps/{i}": y.permute(0, 2, 3, 1) for i, y in enumerate(maps) if i}
    sizes = [x.shape[-2:] for x in maps]
    priors = torch.cat(head.prior_generator.grid_priors(sizes, device="cpu"))
    if len(flat) == 3:
        arrays["centerness"] = flat[2][..., 0]
        half = torch.cat(
            [
                torch.full((h * w, 2), stride / 2)
                for (h, w), stride in zip(sizes, STRIDES, strict=True)
            ]
        )
        priors = torch.cat([priors - half, priors + half], dim=1)
    arrays["anchors/all"] = priors
    operators = sys.modules["mmcv._ext"]
    with mock.patch.object(operators, "nms", lambda *x, offset, **y: nms(*x, **y)):
        found = head.predict_by_feat(*outputs, batch_img_metas=metas, rescale=False)
    for i, one in enumerate(found):
        arrays |= {f"detections/{i}/{key}": one[key] for key in ("scores", "labels")}
        arrays[f"detections/{i}/boxes"] = one.bboxes
    boxes, labels, numbers = truth
    objects = [
        InstanceData(bboxes=boxes[i, :n].double(), labels=labels[i, :n])
        for i, n in enumerate(numbers)
    ]
    head.train()
    metas = [{**one, "pad_shape": batch.tensors.shape[-2:]} for one in metas]
    found = head.loss_by_feat(*head(maps), batch_gt_instances=objects, batch_img_metas=metas)
    return arrays | {
        "targets/boxes": boxes,
        "targets/labels": labels,
        "targets/counts": torch.tensor(numbers),
        **{
            f"losses/{key}": torch.as_tensor(sum(value) if isinstance(value, list) else value)
            for key, value in found.items()
        },
    }


def models() -> dict[str, torch.nn.Module]:
    """mmdet's models for our names."""
    build = mmdet_whole().registry.MODELS.build
    named = {
        "retinanet_resnet50_fpn_c5": RETINANET,
        "fcos_resnet50_caffe_fpn": FIRST,
        "fcos_imprv_resnet50_caffe_fpn": SECOND,
    }
    return {name: build(configuration(path)) for name, path in named.items()}
