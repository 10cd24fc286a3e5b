"""Goldens of Cascade R-CNN: detectron2's, from a checkout, and mmdet's.

`peers.faster_rcnn_detectron2` and `peers.faster_rcnn_mmdet` say what is needed.
"""

import copy

import torch

from peers import faster_rcnn, faster_rcnn_detectron2, faster_rcnn_mmdet, mask_rcnn
from peers.checkouts import detectron2_whole
from peers.detr import padded_batch
from peers.draws import write
from peers.faster_rcnn import CLASSES, DIM, batch_of
from peers.rcnn_heads import COUNTS, MOST

CONFIG = "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py"
STAGES, DENSE = 3, 16


def goldens() -> None:
    """detectron2's with losses, gradients and masks, and mmdet's; at two sizes of the images."""
    detectron2_whole()
    save("cascade_rcnn_detectron2", "cascade_rcnn_resnet50_fpn", (), {})
    with_masks()
    mmdet()


def with_masks() -> None:
    """A cascade with a mask head."""
    from detectron2.structures import BitMasks

    options = (
        *("MODEL.MASK_ON", True, "MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"),
        *("MODEL.ROI_MASK_HEAD.NUM_CONV", 2, "MODEL.ROI_MASK_HEAD.CONV_DIM", DIM),
        *("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 14, "TEST.DETECTIONS_PER_IMAGE", MOST),
    )
    decoding = {"most": MOST, "min_size": 0.0}
    fields = {"decoding_fields": decoding, "mask_conv_dims": [DIM] * 2, "mask_dim": DIM}
    bitmaps = mask_rcnn.masks((60, 62))
    truths = [BitMasks(x[:n]) for x, n in zip(bitmaps, COUNTS, strict=True)]
    name = "cascade_maskrcnn_resnet50_fpn"
    kept = {"targets/masks": bitmaps}
    save("cascade_mask_rcnn_detectron2", name, options, fields, kept, gt_masks=truths)


def save(
    case: str, name: str, options: tuple, more: dict, kept: dict | None = None, **truths: list
) -> None:
    """Writes the golden of a narrow network of a ResNet, a pyramid and three heads.

    Args:
        case: Name of the file.
        name: Name of our model.
        options: Further names and values of detectron2's configuration.
        more: Further fields of our model.
        kept: Further arrays for the tests.
        **truths: Further targets of each image.
    """
    from detectron2.structures import ImageList

    model = faster_rcnn_detectron2.narrow_model(
        *("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
        *("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True, "MODEL.ROI_BOX_HEAD.FC_DIM", DENSE),
        *options,
    )
    x, valid = padded_batch(60, 62)
    faster_rcnn_detectron2.randomise_norms(model)
    if model.roi_heads.mask_on:
        model.roi_heads.mask_head.predictor.weight.data.mul_(10)  # cells of a mask differ
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    peer = copy.deepcopy(model).eval()
    batch = batch_of(x[:, [2, 1, 0]], valid)  # blue, green, red
    images = ImageList(batch.tensors, batch.image_sizes)
    arrays = run(peer, images)
    arrays |= faster_rcnn_detectron2.training(peer, images, **truths)
    sum(value for key, value in arrays.items() if key.startswith("losses/")).backward()
    for i in range(4):
        lateral = getattr(peer.backbone, f"fpn_lateral{2 + i}")
        arrays[f"gradients/lateral_conv_{i}"] = lateral.bias.grad
    fields = {**faster_rcnn_detectron2.fields(), "box_dims": [DENSE, DENSE], **more}
    write(
        case,
        {"name": name, "fields": fields, "source": "detectron2"},
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        {**arrays, **(kept or {})},
        weights,
        tolerance=1e-4,  # of boxes of up to 62 px; both sides compute in float32
    )


@torch.no_grad()
def run(model: torch.nn.Module, images) -> dict[str, torch.Tensor]:
    """All parts of a model's outputs, under our names, with an axis for the stages."""
    arrays, maps, proposals = faster_rcnn_detectron2.regions(model, images)
    found = model.roi_heads._forward_box(maps, proposals)
    heads, levels, count = model.roi_heads, list(maps.values())[:4], len(images.tensor)
    stages = []
    for k in range(STAGES):
        scores, deltas = predictions = heads._run_stage(levels, proposals, k)
        boxes = torch.stack([one.proposal_boxes.tensor for one in proposals])
        stages.append((boxes, scores.reshape(count, -1, CLASSES + 1), deltas.reshape(boxes.shape)))
        refined = heads.box_predictor[k].predict_boxes(predictions, proposals)
        proposals = heads._create_proposals_from_boxes(refined, images.image_sizes)
    names = ("proposals", "class_logits", "box_deltas")
    parts = zip(*stages, strict=True)
    arrays |= {name: torch.stack(part, dim=1) for name, part in zip(names, parts, strict=True)}
    return short(arrays) | faster_rcnn_detectron2.detections(heads, maps, found)


def short(arrays: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without what the goldens of Faster R-CNN have: what leads to the proposals."""
    return {k: v for k, v in arrays.items() if not k.startswith(("rpn", "anchors", "maps"))}


def mmdet() -> None:
    """A narrow network, whose stages' outputs are compared; it merges their scores otherwise."""
    model = faster_rcnn_mmdet.narrow_model(CONFIG, DENSE)
    x, valid = padded_batch(62, 90)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    arrays, maps, samples, proposals = faster_rcnn_mmdet.regions(model, x, valid)
    stages, heads = [], model.roi_head
    for k in range(STAGES):
        boxes, scores, deltas = faster_rcnn_mmdet.head_outputs(heads, maps, proposals, stage=k)
        stages.append((boxes, scores))
        coder = heads.bbox_head[k].bbox_coder
        proposals = [
            coder.decode(one, delta, max_shape=sample.img_shape)
            for one, delta, sample in zip(boxes, deltas, samples, strict=True)
        ]
    boxes, scores = (torch.stack(part, dim=1) for part in zip(*stages, strict=True))
    arrays |= {"proposals": boxes, "class_logits": scores, "refined/last": torch.stack(proposals)}
    arrays = short(arrays)
    write(
        "cascade_rcnn_mmdet",
        {
            "name": "cascade_rcnn_resnet50_fpn",
            "fields": {**faster_rcnn_mmdet.fields(), "box_dims": [DENSE, DENSE]},
            "source": "mmdet",
        },
        {"images": x.permute(0, 2, 3, 1), "valid": valid},
        arrays,
        weights,
        tolerance=1e-4,  # of boxes of up to 90 px; both sides compute in float32
    )


def models() -> dict[str, torch.nn.Module]:
    """detectron2's model for our name; torchvision's parts for the nano."""
    detectron2_whole()
    from detectron2.modeling import build_model

    cfg = faster_rcnn_detectron2.pyramid_configuration(
        *("MODEL.RESNETS.DEPTH", 50, "MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
        *("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True),
    )
    found = {"cascade_rcnn_resnet50_fpn": build_model(cfg), "cascade_rcnn_nano": nano()}
    cfg.merge_from_list(
        [
            *("MODEL.MASK_ON", True, "MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"),
            *("MODEL.ROI_MASK_HEAD.NUM_CONV", 4, "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 14),
        ]
    )
    found["cascade_maskrcnn_resnet50_fpn"] = build_model(cfg)
    found["cascade_maskrcnn_nano"] = nano(masks=True)
    return found


def nano(*, masks: bool = False) -> torch.nn.Module:
    """torchvision's model with the sizes of our nano, with three heads of one box."""
    model = faster_rcnn.nano()
    heads = [copy.deepcopy(model.roi_heads) for _ in range(STAGES)]
    for one in heads:
        one.box_predictor.bbox_pred = torch.nn.Linear(256, 4)
    if masks:
        mask_rcnn.with_masks(model, 64, 90, (48, 48))
        last = torch.nn.Conv2d(48, 90, 1)  # without the background
        model.roi_heads.mask_predictor.mask_fcn_logits = last
        heads += [model.roi_heads.mask_head, model.roi_heads.mask_predictor]
    model.roi_heads = torch.nn.ModuleList(heads)
    return model
