"""Keypoint R-CNN (arXiv 1703.06870, section 5) on COCO and on your own COCO json."""

import dataclasses

from train.config import Config, ModelConfig
from train.recipes.faster_rcnn import fasterrcnn_finetune
from train.recipes.parts.coco import detectron2_recipe
from train.tasks.detection import Detection
from zoo.models.detection.keypoint_rcnn.loss import KeypointRCNNLoss
from zoo.models.detection.parts.losses import DETECTRON2_LOSS


def keypointrcnn_resnet50_fpn_coco() -> Config:
    """Keypoint R-CNN on COCO: detectron2's ``keypoint_rcnn_R_50_FPN_1x``.

        python -m train keypointrcnn_resnet50_fpn_coco --init_backbone=RESNET50

    Not run by us. The data and RESNET50: see `fasterrcnn_resnet50_fpn_coco`.
    """
    return _coco("keypointrcnn_resnet50_fpn_coco")


def keypointrcnn_resnet50_fpn_coco_3x() -> Config:
    """As `keypointrcnn_resnet50_fpn_coco`, with three times the steps."""
    return _coco("keypointrcnn_resnet50_fpn_coco_3x", rounds=3)


def _coco(recipe: str, rounds: int = 1) -> Config:
    """detectron2's recipe, with its loss for people."""
    loss = KeypointRCNNLoss(**{**vars(DETECTRON2_LOSS), "box_beta": 0.5})
    config = detectron2_recipe(recipe, "keypointrcnn_resnet50_fpn", loss, rounds)
    fields = {**config.model.fields, "proposal_fields": {"train_kept": 1500, "min_size": 0.0}}
    return dataclasses.replace(
        config,
        model=ModelConfig(config.model.name, fields),
        data=dataclasses.replace(config.data, keypoints=True),
    )


def keypointrcnn_finetune() -> Config:
    """A public Keypoint R-CNN, fine-tuned on your own COCO json with keypoints.

        python -m train.doctor keypointrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train keypointrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN --iou_type=keypoints

    CHECKPOINT is torchvision's ``keypointrcnn_resnet50_fpn_coco-fc266e95.pth``. DIR has
    ``annotations/person_keypoints_train.json``, ``annotations/person_keypoints_val.json`` and the
    images in ``train/`` and ``val/``; the fields of ``data`` set other paths. The last layers for
    boxes and joints are initialised if your data have other numbers of classes or joints than the
    checkpoint, which has one class and COCO's 17 joints; all other parameters come from the
    checkpoint. Not run by us on public weights.
    """
    boxes = fasterrcnn_finetune()
    return dataclasses.replace(
        boxes,
        recipe="keypointrcnn_finetune",
        model=ModelConfig("keypointrcnn_resnet50_fpn"),
        data=dataclasses.replace(boxes.data, keypoints=True),
        task=Detection(KeypointRCNNLoss()),
    )
