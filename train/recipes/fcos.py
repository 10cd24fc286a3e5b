"""FCOS (arXiv 1904.01355) on embedded scenes of digits, COCO, and your own COCO json.

The settings of the embedded scenes are those of Faster R-CNN.
"""

import dataclasses

from train.config import Config, ModelConfig
from train.recipes.faster_rcnn import fasterrcnn_digit_scenes, fasterrcnn_finetune
from train.recipes.parts.coco import torchvision_recipe
from train.tasks.detection import Detection
from zoo.models.detection.fcos.loss import FCOSLoss


def fcos_digit_scenes() -> Config:
    """A small FCOS on embedded scenes of one to six real digits, from scratch.

        python -m train fcos_digit_scenes --workdir=DIR

    AP 0.697, AP50 0.920 and AP75 0.827 on the 500 held-out scenes, in 10 min 48 s, with other
    work on the two cores. With ``--steps=300``, AP 0.516 and AP50 0.783.
    """
    return dataclasses.replace(
        fasterrcnn_digit_scenes(),
        recipe="fcos_digit_scenes",
        model=ModelConfig("fcos_nano"),
        task=Detection(FCOSLoss()),
    )


def fcos_resnet50_fpn_coco() -> Config:
    """FCOS on COCO, with torchvision's schedule.

        python -m train fcos_resnet50_fpn_coco --data.source=coco:DIR --init_backbone=RESNET50

    `fasterrcnn_resnet50_fpn_coco` has DIR and RESNET50. Published: 39.2 AP. Not run by us.
    `train.recipes.parts.coco.torchvision_recipe` has the schedule and the deviations.
    """
    return torchvision_recipe("fcos_resnet50_fpn_coco", "fcos_resnet50_fpn", FCOSLoss())


def fcos_finetune() -> Config:
    """A public FCOS, fine-tuned on your own COCO json.

        python -m train.doctor fcos_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train fcos_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN

    CHECKPOINT is torchvision's ``fcos_resnet50_fpn_coco-99b0c9b7.pth``. `fasterrcnn_finetune` says
    what DIR has. The last layer for classes is initialised, all other parameters come from the
    checkpoint; the backbone's stem and first stage stay as they are. Not run by us on public
    weights.
    """
    boxes = fasterrcnn_finetune()
    return dataclasses.replace(
        boxes,
        recipe="fcos_finetune",
        model=ModelConfig("fcos_resnet50_fpn"),
        task=Detection(FCOSLoss()),
    )
