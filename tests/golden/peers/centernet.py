"""Goldens of CenterNet, made by the authors' code and by mmdet.

They need $CENTERNET, a checkout of xingyizhou/CenterNet, pycocotools, and what `dense_mmdet` needs.
"""

from unittest import mock

import numpy as np
import torch
from torch import nn

from peers import centernet_parts as parts
from peers.centernet_parts import CLASSES, DEPTHS, LEVELS, MOST, SIDES, as_ours
from peers.checkouts import centernet, mmdet_whole
from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn_mmdet import configuration

HEADS = {"hm": CLASSES, "wh": 2, "reg": 2}
OURS = {"hm": "heat_logits", "wh": "sizes", "reg": "offsets"}
# The second object of the first image is partly in the border that the authors cut off.
BOXES = [
    [[8.0, 2, 30.25, 30], [40, 4, 64, 31], [20.5, 10, 46, 24]],
    [[5, 10, 38, 30.5], [40.3, 11, 51.6, 31.5], [0, 0, 0, 0]],
]
LABELS, COUNTS = [[1, 4, 0], [2, 2, 0]], (3, 2)
PLAIN = "centernet/centernet_r18_8xb16-crop512-140e_coco.py"
DEFORMABLE = "centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco.py"


def goldens() -> None:
    """The authors' three networks, and mmdet's with and without deformable convolutions."""
    body = {"num_blocks": [1] * 4, "stage_dims": [4, 8, 16, 32], "stem_dim": 4}
    deconv = {"backbone_fields": body, "trunk_fields": {"dims": [8, 8, 8]}}
    authors("centernet_centernet_resnet", "resnet18_dcn", parts.narrow_resnet(HEADS), deconv)
    dla = {"backbone_fields": {"depths": DEPTHS, "level_dims": LEVELS}}
    authors("centernet_centernet_dla", "dla34", parts.narrow_dla(HEADS), dla)
    fields = {"backbone_fields": body, "trunk_fields": {"dims": [8, 6, 6], "bias": False}}
    of_mmdet("centernet_mmdet_dcn", "resnet18_dcn", DEFORMABLE, fields)
    fields["trunk_fields"] = {**fields["trunk_fields"], "deformable": False}
    of_mmdet("centernet_mmdet", "resnet18", PLAIN, fields)
    dims, blocks = [6, 8, 8], [1, 2, 1]
    trunk = {"dims": dims, "num_blocks": blocks, "out_dim": 8}
    hourglass = parts.narrow_hourglass(HEADS, dims, blocks)
    fields = {"trunk_fields": trunk}
    authors("centernet_centernet_hourglass", "hourglass104", hourglass, fields)


def save(case: str, name: str, source: str, fields: dict, model: nn.Module, x, valid, arrays):
    """Writes a golden; the peer computed in float64."""
    fields = {"num_classes": CLASSES, "head_dim": 6, "most": MOST, **fields}
    largest = max(float(arrays[name].abs().max()) for name in OURS.values())
    write(
        case,
        {"name": f"centernet_{name}", "fields": fields, "source": source},
        {"images": as_ours(x), "valid": valid},
        {
            **{k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
            "targets/boxes": torch.tensor(BOXES),
            "targets/labels": torch.tensor(LABELS),
            "targets/counts": torch.tensor(COUNTS),
        },
        model.state_dict(),
        tolerance=1e-4 * largest,
    )


@torch.no_grad()
def authors(case: str, name: str, model: nn.Module, fields: dict) -> None:
    """Writes a golden of the authors' code."""
    code = centernet()
    x, valid = padded_batch(*SIDES)
    found = parts.precise(model)(x[:, [2, 1, 0]].double())[-1]
    arrays = {OURS[k]: as_ours(v) for k, v in found.items()}
    decoded = code.decode.ctdet_decode(found["hm"].sigmoid(), found["wh"], found["reg"], K=MOST)
    for i, one in enumerate(decoded):
        arrays[f"detections/{i}/boxes"] = one[:, :4] * 4
        arrays |= {f"detections/{i}/scores": one[:, 4], f"detections/{i}/labels": one[:, 5].long()}
    batch = parts.stacked([targets(code, i) for i in range(2)])
    arrays["losses/hm"] = parts.heat_loss(code, found["hm"], batch["hm"])
    for key in ("wh", "reg"):
        arrays[f"losses/{key}"] = parts.loss_l1(code, found[key], batch, "reg_mask", "ind", key)
    arrays["losses/wh"] *= 0.1
    save(case, name, "centernet", fields, model, x, valid, arrays)


def targets(code, image: int) -> dict[str, np.ndarray]:
    """The authors' targets of an image."""
    boxes = np.array(BOXES[image])[: COUNTS[image]]
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    objects = [
        {"bbox": box, "category_id": label}
        for box, label in zip(corner_and_size.tolist(), LABELS[image], strict=False)
    ]
    return parts.sample(code.boxes.CTDetDataset, objects, CLASSES)


@torch.no_grad()
def of_mmdet(case: str, name: str, path: str, fields: dict) -> None:
    """Writes a golden of mmdet."""
    model = narrow_model(path)
    x, valid = padded_batch(*SIDES)
    precise = parts.precise(model)
    outputs = precise.bbox_head(precise.neck(precise.backbone(x.double())))
    heat, sizes, offsets = (as_ours(one[0]) for one in outputs)
    arrays = {"heat_logits": torch.logit(heat), "sizes": sizes, "offsets": offsets}
    metas = [{"batch_input_shape": SIDES, "border": np.zeros(4), "img_shape": SIDES}] * 2
    found = precise.bbox_head.predict_by_feat(*outputs, batch_img_metas=metas, rescale=False)
    for i, one in enumerate(found):
        arrays |= {f"detections/{i}/{key}": one[key] for key in ("scores", "labels")}
        arrays[f"detections/{i}/boxes"] = one.bboxes
    from mmengine.structures import InstanceData

    objects = [
        InstanceData(bboxes=torch.tensor(BOXES[i][:n]).double(), labels=torch.tensor(LABELS[i][:n]))
        for i, n in enumerate(COUNTS)
    ]
    losses = precise.bbox_head.loss_by_feat(
        *outputs, batch_gt_instances=objects, batch_img_metas=metas
    )
    arrays |= {f"losses/{key}": value for key, value in losses.items()}
    save(case, name, "mmdet", fields, model, x, valid, arrays)


def narrow_model(path: str) -> nn.Module:
    """A published configuration with few features and drawn weights."""
    mmdet, settings = mmdet_whole(), configuration(path)
    settings.backbone.update(base_channels=4, stem_channels=4)
    settings.neck.update(in_channels=32, num_deconv_filters=(8, 6, 6))
    settings.bbox_head.update(in_channels=6, feat_channels=6, num_classes=CLASSES)
    settings.test_cfg.update(topk=MOST)
    kind = mmdet.models.ResNet
    blocks = {18: (kind.arch_settings[18][0], [1] * 4)}
    with mock.patch.object(kind, "arch_settings", blocks):
        model = mmdet.registry.MODELS.build(settings)
    whole = nn.Module()
    whole.backbone, whole.neck, whole.bbox_head = model.backbone, model.neck, model.bbox_head
    whole.forward = lambda x: model.bbox_head(model.neck(model.backbone(x)))
    parts.draw_weights(whole)
    return model


def models() -> dict[str, nn.Module]:
    """The peers' models for our names, without weights that nothing uses."""
    code, mmdet = centernet(), mmdet_whole()
    heads = {"hm": 80, "wh": 2, "reg": 2}
    with mock.patch.object(code.dla.DLA, "load_pretrained_model", lambda *_, **__: None):
        dla = code.dla.get_pose_net(34, heads)
    dla.base.level3.project = dla.base.level4.project = None
    resnets = {
        f"centernet_resnet{depth}_dcn": code.resnet.PoseResNet(
            *code.resnet.resnet_spec[depth], heads, 64
        )
        for depth in (18, 101)
    }
    return {
        **resnets,
        "centernet_dla34": dla,
        "centernet_hourglass104": code.hourglass.get_large_hourglass_net(0, heads, 64),
        "centernet_resnet18": mmdet.registry.MODELS.build(configuration(PLAIN)),
        "centernet_nano": nano(code, heads),
    }


def nano(code, heads: dict[str, int]) -> nn.Module:
    """Our nano: the authors' network from level 1 to 3, with plain convolutions."""
    model = nn.Module()
    model.base = code.dla.DLA([1] * 6, [16, 32, 64, 96, 1, 1], block=code.dla.BasicBlock)
    model.base.level4 = model.base.level5 = None

    def plain(dim: int, out_dim: int, **_) -> nn.Module:
        return nn.Conv2d(dim, out_dim, 3, padding=1)

    with mock.patch.object(code.dla, "DCN", plain):
        model.dla_up = code.dla.DLAUp(1, [32, 64, 96], [1, 2, 4])
        model.ida_up = code.dla.IDAUp(32, [32, 64], [1, 2])
    for name, dim in heads.items():
        setattr(model, name, nn.Sequential(nn.Conv2d(32, 48, 3), nn.ReLU(), nn.Conv2d(48, dim, 1)))
    return model
