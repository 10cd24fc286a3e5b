"""A golden of TridentNet, made by mmdet: see `faster_rcnn_mmdet`. One branch is used.

With all branches and more than one image, mmdet 3.3 merges detections of different images.
"""

import torch

from peers import faster_rcnn_mmdet
from peers.checkouts import mmdet_whole
from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn import CLASSES
from peers.faster_rcnn_detectron2 import divide

STAGES, DEPTHS = [2, 4, 8, 16], [1, 1, 2, 1]


def goldens() -> None:
    """A narrow network; mmdet pads images to multiples of 32 pixels, which these are already."""
    model = narrow_model()
    x, valid = padded_batch(64, 96)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    model, x = model.double(), x.double()
    arrays, maps, samples, proposals = faster_rcnn_mmdet.regions(model, x[:, [2, 1, 0]], valid)
    _, scores, deltas = faster_rcnn_mmdet.head_outputs(model.roi_head, maps, proposals)
    arrays |= {"class_logits": scores, "box_deltas": deltas.unflatten(-1, (CLASSES, 4))}
    arrays["maps/0"] = maps[0].permute(0, 2, 3, 1)
    boxes = faster_rcnn_mmdet.instances(proposals)
    with torch.no_grad():
        found = model.roi_head.predict(maps, boxes, samples, rescale=False)
    for i, one in enumerate(found):
        arrays |= {f"detections/{i}/{key}": one[key] for key in ("scores", "labels")}
        arrays[f"detections/{i}/boxes"] = one.bboxes
    write(
        "tridentnet_mmdet",
        {"name": "tridentnet_resnet50_c4", "fields": fields(), "source": "mmdet"},
        {"images": x.float().permute(0, 2, 3, 1), "valid": valid},
        {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
        weights,
        tolerance=1e-4,  # of boxes of up to 96 px; the peer computes in float64
    )


def fields() -> dict:
    """Fields of our model for `narrow_model`."""
    return {
        "num_classes": CLASSES,
        "backbone_fields": {
            "num_blocks": DEPTHS,
            "stage_dims": STAGES,
            "stem_dim": STAGES[0],
            "stride_in_1x1": True,
        },
        "anchor_fields": {"sizes": [[16, 32, 64]], "strides": [16]},
        "proposal_fields": {"candidates": 50, "kept": 8, "min_size": 0.0},
        "pooling_fields": {
            "size": 14,
            "sampling_ratio": 0,
            "aligned": True,
            "canonical_size": 56,
            "canonical_level": 2,
            "level_epsilon": 0.0,
            "ratio_epsilon": 1e-6,
        },
    }


def narrow_model() -> torch.nn.Module:
    """The published configuration with few features and drawn weights."""
    mmdet = mmdet_whole()
    from mmdet.models.layers import ResLayer

    settings = faster_rcnn_mmdet.configuration("tridentnet/tridentnet_r50-caffe_1x_coco.py")
    settings.backbone.update(base_channels=STAGES[0], stem_channels=STAGES[0])
    settings.rpn_head.update(in_channels=4 * STAGES[2], feat_channels=4 * STAGES[2])
    settings.rpn_head.anchor_generator.scales = [1, 2, 4]
    settings.roi_head.bbox_roi_extractor.out_channels = 4 * STAGES[2]
    settings.roi_head.bbox_head.update(in_channels=4 * STAGES[3], num_classes=CLASSES)
    settings.roi_head.shared_head.init_cfg = None
    settings.test_cfg.rpn.update(nms_pre=50, max_per_img=8)
    kind = mmdet.models.ResNet
    blocks, kind.arch_settings = kind.arch_settings, {50: (kind.arch_settings[50][0], DEPTHS)}
    model = mmdet.registry.MODELS.build(settings)
    block = kind.arch_settings[50][0]
    kind.arch_settings = blocks
    last = {"inplanes": 4 * STAGES[2], "planes": STAGES[3], "num_blocks": DEPTHS[3], "stride": 2}
    model.roi_head.shared_head.layer4 = ResLayer(block, **last, style="caffe")
    draw_weights(model.eval())
    return model


@torch.no_grad()
def draw_weights(model: torch.nn.Module) -> None:
    """Random weights and statistics, and outputs of the heads near 1."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.is_floating_point():
            tensor.normal_(0.0, 0.3).mul_(16).round_().div_(16)
    maps = model.extract_feat(torch.randn(1, 3, 64, 64))
    logits, deltas = model.rpn_head(maps)
    divide(model.rpn_head.rpn_cls, list(logits), 1.0)
    divide(model.rpn_head.rpn_reg, list(deltas), 0.3)
    heads = model.roi_head
    pooled = maps[0].std() * torch.randn(50, maps[0].shape[1], 14, 14).relu()
    logits, deltas = heads.bbox_head(heads.shared_head(pooled))
    divide(heads.bbox_head.fc_cls, [logits], 1.0)
    divide(heads.bbox_head.fc_reg, [deltas], 1.0)
