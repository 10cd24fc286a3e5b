"""Keypoint R-CNN (arXiv 1703.06870, section 5) on your own COCO json."""

import dataclasses

from train.config import Config, ModelConfig
from train.recipes.faster_rcnn import fasterrcnn_finetune
from train.tasks.detection import Detection
from zoo.models.detection.keypoint_rcnn.loss import KeypointRCNNLoss


def keypointrcnn_finetune() -> Config:
    """A public Keypoint R-CNN, fine-tuned on your own COCO json with keypoints.

        python -m train.doctor keypointrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train keypointrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN --iou_type=keypoints

    CHECKPOINT is torchvision's ``keypointrcnn_resnet50_fpn_coco-fc266e95.pth``, whose frozen norms
    have no epsilon. DIR has ``annotations/person_keypoints_train.json``,
    ``annotations/person_keypoints_val.json`` and the images in ``train/`` and ``val/``; the fields
    of ``data`` set other paths. The last layers for boxes and joints are initialised if your data
    have other numbers of classes or joints than the checkpoint, which has one class and COCO's 17
    joints; all other parameters come from the checkpoint. Not run by us on public weights.
    """
    boxes = fasterrcnn_finetune()
    return dataclasses.replace(
        boxes,
        recipe="keypointrcnn_finetune",
        model=ModelConfig("keypointrcnn_resnet50_fpn", {"norm_epsilon": 0.0}),
        data=dataclasses.replace(boxes.data, keypoints=True),
        task=Detection(KeypointRCNNLoss()),
    )
