"""A golden of TridentNet, made by detectron2's project: see `faster_rcnn_detectron2`."""

import copy
import importlib
import os
import sys

import torch
from torchvision.models.detection.rpn import RPNHead

from peers import faster_rcnn_c4, faster_rcnn_detectron2
from peers.checkouts import detectron2_whole
from peers.detr import padded_batch
from peers.draws import write

BRANCHES = 3


def goldens() -> None:
    """A narrow network with losses; all branches are used, and the middle one alone."""
    project()
    from detectron2.structures import ImageList

    x, valid = padded_batch(62, 90)
    model = narrow_model(test_branch=-1)
    draw_weights(model)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    fast = narrow_model(test_branch=1)
    fast.load_state_dict(weights)
    sizes = [(int(v.any(1).sum()), int(v.any(0).sum())) for v in valid]
    images = ImageList(x[:, [2, 1, 0]], sizes)  # blue, green, red
    arrays = run(model, images, BRANCHES)
    arrays |= {f"fast/{key}": value for key, value in run(fast, images, 1).items()}
    arrays |= faster_rcnn_detectron2.training(copy.deepcopy(model), images)
    write(
        "tridentnet_detectron2",
        {"name": "tridentnet_resnet50_c4", "fields": fields(), "source": "detectron2"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        arrays,
        weights,
        tolerance=1e-4,  # of boxes of up to 90 px; both sides compute in float32
    )


def fields() -> dict:
    """Fields of our model for `narrow_model`."""
    ours = faster_rcnn_c4.fields()
    ours["backbone_fields"]["num_blocks"] = [1, 1, 2, 3]
    sampling = {"num": 16, "positive_fraction": 0.5}
    return {**ours, "roi_sampling": sampling, "test_branch": None}


def project() -> None:
    """Makes detectron2 and its project importable."""
    detectron2_whole()
    for name in list(sys.modules):  # what registered itself in an earlier import of detectron2
        if name.partition(".")[0] == "tridentnet":
            del sys.modules[name]
    folder = os.path.join(os.environ["DETECTRON2"], "projects", "TridentNet")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.import_module("tridentnet")


def configured(cfg, test_branch: int) -> None:
    """The settings of the project's configuration files."""
    from tridentnet import add_tridentnet_config

    add_tridentnet_config(cfg)
    cfg.merge_from_list(
        [
            *("MODEL.PROPOSAL_GENERATOR.NAME", "TridentRPN"),
            *("MODEL.ROI_HEADS.NAME", "TridentRes5ROIHeads"),
            *("MODEL.ROI_HEADS.POSITIVE_FRACTION", 0.5),
            *("MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", False),
            *("MODEL.TRIDENT.TEST_BRANCH_IDX", test_branch),
        ]
    )


def narrow_model(test_branch: int) -> torch.nn.Module:
    """A model with few features; its stage in branches has two blocks."""
    from detectron2.modeling.backbone.resnet import BasicStem, ResNet
    from tridentnet.trident_backbone import TridentBottleneckBlock, make_trident_stage

    cfg = faster_rcnn_c4.narrow_configuration()
    configured(cfg, test_branch)
    cfg.MODEL.ROI_HEADS.PROPOSAL_APPEND_GT = True  # no drawn proposal overlaps an object
    dims = faster_rcnn_c4.STAGES
    branches = make_trident_stage(
        TridentBottleneckBlock,
        2,
        stride_per_block=[2, 1],
        bottleneck_channels=dims[2],
        in_channels=4 * dims[1],
        out_channels=4 * dims[2],
        stride_in_1x1=True,
        norm="FrozenBN",
        num_branch=BRANCHES,
        dilations=cfg.MODEL.TRIDENT.BRANCH_DILATIONS,
        test_branch_idx=test_branch,
    )
    stages = [*faster_rcnn_detectron2.narrow_stages(dims[:2]), branches]
    backbone = ResNet(BasicStem(3, 8, "FrozenBN"), stages, out_features=["res4"])
    return faster_rcnn_detectron2.assemble(cfg, backbone)


@torch.no_grad()
def draw_weights(model: torch.nn.Module) -> None:
    """Random weights and statistics with which the maps of the branches differ much."""
    faster_rcnn_detectron2.draw(model)
    for block in model.backbone.res4:
        block.conv1.norm.weight.mul_(4)
        block.conv2.weight.mul_(4)
        block.conv3.weight.mul_(4)
    faster_rcnn_c4.scale_heads(model)


@torch.no_grad()
def run(model: torch.nn.Module, images, branches: int) -> dict[str, torch.Tensor]:
    """All parts of a model's outputs, under our names."""
    count = len(images.tensor)
    maps = model.backbone(images.tensor)
    logits, deltas = model.proposal_generator.rpn_head([maps["res4"]])
    proposals, _ = model.proposal_generator(images, maps)
    heads = model.roi_heads
    boxes = [one.proposal_boxes for one in proposals]
    pooled = heads._shared_roi_transform([maps["res4"]], boxes)
    scores, refined = heads.box_predictor(pooled.mean(dim=(2, 3)))
    found, _ = heads(images, maps, proposals)

    def joined(rows: torch.Tensor) -> torch.Tensor:
        """Theirs are all images of the first branch first; ours all branches of an image."""
        rows = rows.unflatten(0, (branches, count)).transpose(0, 1)
        return rows.flatten(1, 2)

    arrays = {
        "rpn_logits": joined(logits[0].permute(0, 2, 3, 1).flatten(1)),
        "rpn_deltas": joined(deltas[0].permute(0, 2, 3, 1).reshape(branches * count, -1, 4)),
        "proposals": joined(torch.stack([one.tensor for one in boxes])),
        "class_logits": joined(scores.unflatten(0, (branches * count, -1))),
        "box_deltas": joined(refined.reshape(branches * count, -1, heads.num_classes, 4)),
        "maps/0": maps["res4"].unflatten(0, (branches, count)).permute(1, 0, 3, 4, 2).flatten(0, 1),
    }
    for i, one in enumerate(found):
        arrays[f"detections/{i}/boxes"] = one.pred_boxes.tensor
        arrays[f"detections/{i}/scores"] = one.scores
        arrays[f"detections/{i}/labels"] = one.pred_classes
    return arrays


def models() -> dict[str, torch.nn.Module]:
    """detectron2's model for our name; the parts of our nano, of torchvision's layers."""
    project()
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    configured(cfg, test_branch=1)
    cfg.merge_from_list(
        [
            *("MODEL.BACKBONE.NAME", "build_trident_resnet_backbone"),
            *("MODEL.RESNETS.DEPTH", 50, "MODEL.DEVICE", "meta"),
        ]
    )
    nano = torch.nn.ModuleList(
        [
            faster_rcnn_c4.nano_body(),
            RPNHead(64, 18),
            torch.nn.Linear(96, 91),
            torch.nn.Linear(96, 4 * 90),
        ]
    )
    return {"tridentnet_resnet50_c4": build_model(cfg), "tridentnet_nano": nano}
