"""Keypoint R-CNN (arXiv 1703.06870, section 5) on your own COCO json."""

from train.config import Config
from train.recipes.parts.rcnn import rcnn_finetune
from zoo.models.detection.keypoint_rcnn.loss import KeypointRCNNLoss


def keypointrcnn_finetune() -> Config:
    """A public Keypoint R-CNN, fine-tuned on your own COCO json with keypoints.

        python -m train.doctor keypointrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train keypointrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN --iou_type=keypoints

    CHECKPOINT is torchvision's ``keypointrcnn_resnet50_fpn_coco-fc266e95.pth``. DIR has
    ``annotations/person_keypoints_train.json``, ``annotations/person_keypoints_val.json`` and the
    images in ``train/`` and ``val/``; `detr_finetune` says how to set other paths. The layers that
    predict classes, boxes and joints are initialised if their numbers differ from the checkpoint's,
    all other parameters come from the checkpoint.
    """
    return rcnn_finetune(
        "keypointrcnn_finetune",
        "keypointrcnn_resnet50_fpn",
        KeypointRCNNLoss(),
        keypoints=True,
    )
