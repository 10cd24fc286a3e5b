"""Goldens of Faster R-CNN, made by mmdet 3.3, with an FPN and with a PAFPN.

Besides the peers' packages it needs mmdet, mmengine, mmcv-lite 2.1 and what they import, and
`mmdet_peer`, which stands in for mmcv's compiled operators.
"""

import os

import torch

from peers.checkouts import mmdet_whole
from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn import CLASSES, DIM, batch_of
from peers.faster_rcnn_detectron2 import STAGES, divide

PAFPN = "pafpn/faster-rcnn_r50_pafpn_1x_coco.py"


def goldens() -> None:
    """Both pyramids, each at another size of the images."""
    cases = {
        "": ("faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", "fasterrcnn_resnet50_fpn", (60, 62)),
        "_pafpn": (PAFPN, "fasterrcnn_resnet50_pafpn", (62, 50)),
    }
    for case, (config, name, size) in cases.items():
        save(f"faster_rcnn_mmdet{case}", config, name, size)


def save(case: str, config: str, name: str, size: tuple[int, int]) -> None:
    """Writes a golden of a narrow model."""
    model = narrow_model(config)
    x, valid = padded_batch(*size)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    model, x = model.double(), x.double()
    arrays, maps, samples, proposals = regions(model, x, valid)
    _, scores, deltas = head_outputs(model.roi_head, maps, proposals)
    arrays |= {"class_logits": scores, "box_deltas": deltas.unflatten(-1, (CLASSES, 4))}
    with torch.no_grad():
        found = model.roi_head.predict(maps, instances(proposals), samples, rescale=False)
    for i, one in enumerate(found):
        arrays |= {f"detections/{i}/{key}": one[f"{key}"] for key in ("scores", "labels")}
        arrays[f"detections/{i}/boxes"] = one.bboxes
    write(
        case,
        {"name": name, "fields": fields(), "source": "mmdet"},
        {"images": x.float().permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
        weights,
        tolerance=1e-4,  # of boxes of up to 62 px; the peer computes in float64
    )


def fields() -> dict:
    """Fields of our model for `narrow_model`."""
    return {
        "num_classes": CLASSES,
        "backbone_fields": {"num_blocks": [1, 1, 1, 1], "stage_dims": STAGES, "stem_dim": 4},
        "pyramid_dim": DIM,
        "anchor_fields": {
            "sizes": [[32 * 2**i] for i in range(5)],
            "strides": [4 * 2**i for i in range(5)],
        },
        "proposal_fields": {"candidates": 30, "kept": 16, "min_size": 0.0},
        "pooling_fields": {
            "sampling_ratio": 0,
            "aligned": True,
            "canonical_size": 56,
            "canonical_level": 2,
            "level_epsilon": 0.0,
            "ratio_epsilon": 1e-6,
        },
        "box_dims": [32, 32],
    }


def configuration(path: str):
    """The model of a published configuration, without a file of weights."""
    mmdet = mmdet_whole()
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    settings = Config.fromfile(os.path.join(os.path.dirname(mmdet.__file__), ".mim/configs", path))
    settings.model.backbone.init_cfg = None
    return settings.model


def narrow_model(path: str, dense: int = 32) -> torch.nn.Module:
    """A published configuration with few features, one block in each stage, and drawn weights."""
    mmdet, settings = mmdet_whole(), configuration(path)
    settings.backbone.update(base_channels=STAGES[0])
    settings.neck.update(in_channels=[4 * dim for dim in STAGES], out_channels=DIM)
    settings.rpn_head.update(in_channels=DIM, feat_channels=DIM)
    settings.roi_head.bbox_roi_extractor.out_channels = DIM
    heads = settings.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(in_channels=DIM, fc_out_channels=dense, num_classes=CLASSES)
    settings.test_cfg.rpn.update(nms_pre=30, max_per_img=16)
    kind = mmdet.models.ResNet
    blocks, kind.arch_settings = kind.arch_settings, {50: (kind.arch_settings[50][0], [1] * 4)}
    model = mmdet.registry.MODELS.build(settings).eval()
    kind.arch_settings = blocks
    draw_weights(model)
    return model


@torch.no_grad()
def draw_weights(model: torch.nn.Module) -> None:
    """Random weights and statistics, and outputs of the heads near 1."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.is_floating_point():
            tensor.normal_(0.0, 0.2).mul_(16).round_().div_(16)  # compresses well
    maps = model.extract_feat(torch.randn(1, 3, 64, 64))
    logits, deltas = model.rpn_head(maps)
    divide(model.rpn_head.rpn_cls, list(logits), 1.0)
    divide(model.rpn_head.rpn_reg, list(deltas), 0.3)
    heads, spread = model.roi_head.bbox_head, max(float(x.std()) for x in maps)
    for head in heads if isinstance(heads, torch.nn.ModuleList) else [heads]:
        logits, deltas = head(spread * torch.randn(50, DIM, 7, 7))
        divide(head.fc_cls, [logits], 1.0)
        divide(head.fc_reg, [deltas], 1.0)


@torch.no_grad()
def regions(model: torch.nn.Module, x: torch.Tensor, valid: torch.Tensor) -> tuple:
    """What leads to the proposals, under our names; the maps, mmdet's samples, the proposals."""
    from mmdet.structures import DetDataSample

    batch = batch_of(x, valid)
    metas = [{"img_shape": size, "scale_factor": (1.0, 1.0)} for size in batch.image_sizes]
    samples = [DetDataSample(metainfo=meta) for meta in metas]
    maps = model.extract_feat(batch.tensors)
    logits, deltas = model.rpn_head(maps)
    count = len(x)
    generator = model.rpn_head.prior_generator
    anchors = generator.grid_priors([y.shape[-2:] for y in maps], device="cpu")
    proposals = [one.bboxes for one in model.rpn_head.predict(maps, samples)]
    flat = [y.permute(0, 2, 3, 1) for y in (*logits, *deltas)]
    levels = len(maps)
    arrays = {
        "rpn_logits": torch.cat([y.reshape(count, -1) for y in flat[:levels]], dim=1),
        "rpn_deltas": torch.cat([y.reshape(count, -1, 4) for y in flat[levels:]], dim=1),
        "proposals": torch.stack(proposals),
        "anchors/all": torch.cat(anchors),
    }
    arrays |= {f"maps/{i}": y.permute(0, 2, 3, 1) for i, y in enumerate(maps) if i}
    return arrays, maps, samples, proposals


@torch.no_grad()
def head_outputs(
    heads: torch.nn.Module, maps: tuple, proposals: list[torch.Tensor], **stage: int
) -> tuple[torch.Tensor, ...]:
    """The boxes, and their logits and deltas, each with an axis for the images."""
    from mmdet.structures.bbox import bbox2roi

    outputs = heads._bbox_forward(*stage.values(), maps, bbox2roi(proposals))
    parts = (outputs["cls_score"], outputs["bbox_pred"])
    return torch.stack(proposals), *(x.unflatten(0, (len(proposals), -1)) for x in parts)


def instances(proposals: list[torch.Tensor]) -> list:
    """The proposals as mmdet's heads take them."""
    from mmengine.structures import InstanceData

    return [InstanceData(bboxes=one, scores=one.new_ones(len(one))) for one in proposals]


def models() -> dict[str, torch.nn.Module]:
    """mmdet's model for our name."""
    model = mmdet_whole().registry.MODELS.build(configuration(PAFPN))
    return {"fasterrcnn_resnet50_pafpn": model}
