"""Goldens of Mask and Keypoint R-CNN, made by detectron2: see `faster_rcnn_detectron2`."""

from peers.checkouts import detectron2_whole
from peers.faster_rcnn import DIM
from peers.faster_rcnn_detectron2 import narrow_model, save
from peers.keypoint_rcnn import JOINTS, keypoints
from peers.mask_rcnn import masks
from peers.rcnn_heads import COUNTS, MOST


def goldens() -> None:
    """A mask head without and a keypoint head with the loss's fixed normaliser."""
    detectron2_whole()
    from detectron2.structures import BitMasks, Keypoints

    decoding = {"decoding_fields": {"most": MOST, "min_size": 0.0}}
    few = ("TEST.DETECTIONS_PER_IMAGE", MOST)
    options = {
        "MASK_ON": True,
        "ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
        "ROI_MASK_HEAD.NUM_CONV": 2,
        "ROI_MASK_HEAD.CONV_DIM": DIM,
        "ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
    }
    fields = {**decoding, "mask_conv_dims": [DIM] * 2, "mask_dim": DIM, "paste": "centres"}
    kept = {"targets/masks": masks((60, 62))}
    truths = [BitMasks(x[:n]) for x, n in zip(*kept.values(), COUNTS, strict=True)]
    name = "maskrcnn_resnet50_fpn"
    model = narrow_model(*few, *_listed(options))
    save("mask_rcnn_detectron2", name, model, fields, kept, gt_masks=truths)

    options = {
        "KEYPOINT_ON": True,
        "ROI_KEYPOINT_HEAD.CONV_DIMS": [DIM] * 3,
        "ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": JOINTS,
        "ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": False,
    }
    fields = {
        **decoding,
        "num_keypoints": JOINTS,
        "keypoint_conv_dims": [DIM] * 3,
        "keypoint_score": "probability",
    }
    kept = {"targets/keypoints": keypoints()}
    truths = [Keypoints(x[:n]) for x, n in zip(*kept.values(), COUNTS, strict=True)]
    name = "keypointrcnn_resnet50_fpn"
    model = narrow_model(*few, *_listed(options))
    save("keypoint_rcnn_detectron2", name, model, fields, kept, gt_keypoints=truths)


def _listed(options: dict) -> list:
    """Options as a flat list, with the beginning of their names that they share."""
    return [x for name, value in options.items() for x in (f"MODEL.{name}", value)]
