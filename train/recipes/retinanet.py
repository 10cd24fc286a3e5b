"""RetinaNet (arXiv 1708.02002) on embedded scenes of digits, COCO, and your own COCO json.

The settings of the embedded scenes are those of Faster R-CNN.
"""

import dataclasses

from train.config import Config, ModelConfig
from train.recipes.faster_rcnn import fasterrcnn_digit_scenes, fasterrcnn_finetune
from train.recipes.parts.coco import detectron2_recipe, torchvision_recipe
from train.tasks.detection import Detection
from zoo.models.detection.retinanet.loss import RetinaNetLoss


def retinanet_digit_scenes() -> Config:
    """A small RetinaNet on embedded scenes of one to six real digits, from scratch.

        python -m train retinanet_digit_scenes --workdir=DIR

    The settings are those of Faster R-CNN, with half the steps. AP 0.699, AP50 0.925 and AP75 0.828
    of the last checkpoint on the 500 held-out scenes, half-way 0.670 and 0.910, after 6 minutes
    21 s on two CPU cores that also ran other work, with GLIBC_TUNABLES=glibc.malloc.hugetlb=1. With
    ``--steps=2500`` AP 0.727, AP50 0.937 and AP75 0.853.
    """
    return dataclasses.replace(
        fasterrcnn_digit_scenes(),
        recipe="retinanet_digit_scenes",
        model=ModelConfig("retinanet_nano"),
        task=Detection(RetinaNetLoss(box="giou", normaliser="batch")),
        steps=1_250,
        eval_every=625,
    )


def retinanet_resnet50_fpn_coco() -> Config:
    """RetinaNet on COCO, with torchvision's schedule.

        python -m train retinanet_resnet50_fpn_coco --data.source=coco:DIR --init_backbone=RESNET50

    `fasterrcnn_resnet50_fpn_coco` has DIR and RESNET50. Published: 36.4 AP. Not run by us.
    `train.recipes.parts.coco.torchvision_recipe` has the schedule and the deviations.
    """
    return torchvision_recipe(
        "retinanet_resnet50_fpn_coco", "retinanet_resnet50_fpn", RetinaNetLoss()
    )


def retinanet_resnet50_fpn_c5_coco() -> Config:
    """RetinaNet on COCO: detectron2's ``retinanet_R_50_FPN_1x``; published, 37.4 AP.

    As `retinanet_resnet50_fpn_coco`, with six shorter sides of images, 12 epochs, and P6 made from
    C5. Further deviations: the losses are divided by the positive anchors of the batch, in
    detectron2 by a moving average of their number; the sides of anchors are rounded.
    """
    config = detectron2_recipe(
        "retinanet_resnet50_fpn_c5_coco",
        "retinanet_resnet50_fpn_c5",
        RetinaNetLoss(normaliser="batch"),
    )
    return dataclasses.replace(
        config,
        model=ModelConfig("retinanet_resnet50_fpn_c5"),
        optim=dataclasses.replace(config.optim, learning_rate=0.01),
    )


def retinanet_resnet50_fpn_c5_coco_3x() -> Config:
    """As `retinanet_resnet50_fpn_c5_coco`, with three times the steps: published, 38.7 AP."""
    config = retinanet_resnet50_fpn_c5_coco()
    steps = 3 * config.steps
    return dataclasses.replace(
        config,
        recipe="retinanet_resnet50_fpn_c5_coco_3x",
        steps=steps,
        optim=dataclasses.replace(
            config.optim, drop_at=((steps - 60_000) / steps, (steps - 20_000) / steps)
        ),
    )


def retinanet_finetune() -> Config:
    """A public RetinaNet, fine-tuned on your own COCO json.

        python -m train.doctor retinanet_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train retinanet_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN

    CHECKPOINT is torchvision's ``retinanet_resnet50_fpn_coco-eeacb38b.pth``. With its version 2,
    ``retinanet_resnet50_fpn_v2_coco-5905b1c5.pth``, give
    ``--model.name=retinanet_resnet50_fpn_v2 --task.loss.box=giou``. `fasterrcnn_finetune` says what
    DIR has. The last layer for classes is initialised, all other parameters come from the
    checkpoint; the backbone's stem and first stage stay as they are. Not run by us on public
    weights.
    """
    boxes = fasterrcnn_finetune()
    return dataclasses.replace(
        boxes,
        recipe="retinanet_finetune",
        model=ModelConfig("retinanet_resnet50_fpn"),
        task=Detection(RetinaNetLoss()),
    )
