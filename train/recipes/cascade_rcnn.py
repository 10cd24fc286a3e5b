"""Cascade R-CNN (arXiv 1712.00726) on embedded scenes of digits and on COCO."""

import dataclasses

from train.config import Config, ModelConfig
from train.recipes.faster_rcnn import fasterrcnn_digit_scenes
from train.recipes.parts.coco import detectron2_recipe
from train.tasks.detection import Detection
from zoo.models.detection.cascade_mask_rcnn.loss import CascadeMaskLoss
from zoo.models.detection.parts.cascade_loss import CascadeLoss


def cascade_digit_scenes() -> Config:
    """A small Cascade R-CNN on embedded scenes of one to six real digits, from scratch.

        python -m train cascade_digit_scenes --workdir=DIR

    AP 0.728, AP50 0.920 and AP75 0.857 of the last checkpoint on the 500 held-out scenes; those of
    `fasterrcnn_digit_scenes` are 0.684, 0.913 and 0.823. The run takes 27 minutes of CPU time on
    two cores, with GLIBC_TUNABLES=glibc.malloc.hugetlb=1; they were shared with much other work.
    """
    return dataclasses.replace(
        fasterrcnn_digit_scenes(),
        recipe="cascade_digit_scenes",
        model=ModelConfig("cascade_rcnn_nano"),
        task=Detection(CascadeLoss()),
    )


def cascade_rcnn_resnet50_fpn_coco() -> Config:
    """Cascade R-CNN on COCO, with detectron2's schedule "1x".

        python -m train cascade_rcnn_resnet50_fpn_coco --init_backbone=RESNET50

    Published, by mmdet, with other losses: 40.3 AP. Not run by us. The data
    and RESNET50: see `fasterrcnn_resnet50_fpn_coco`.
    """
    return detectron2_recipe(
        "cascade_rcnn_resnet50_fpn_coco", "cascade_rcnn_resnet50_fpn", CascadeLoss()
    )


def cascade_maskrcnn_resnet50_fpn_coco() -> Config:
    """Cascade Mask R-CNN on COCO: detectron2's ``cascade_mask_rcnn_R_50_FPN_1x``.

        python -m train cascade_maskrcnn_resnet50_fpn_coco --init_backbone=RESNET50

    Published: 42.1 AP of boxes and 36.4 of masks. Not run by us. The data
    and RESNET50: see `fasterrcnn_resnet50_fpn_coco`.
    """
    return _coco_masks("cascade_maskrcnn_resnet50_fpn_coco")


def cascade_maskrcnn_resnet50_fpn_coco_3x() -> Config:
    """As `cascade_maskrcnn_resnet50_fpn_coco`, three times the steps: published, 44.3 and 38.5."""
    return _coco_masks("cascade_maskrcnn_resnet50_fpn_coco_3x", rounds=3)


def _coco_masks(recipe: str, rounds: int = 1) -> Config:
    """detectron2's recipe with masks."""
    loss = CascadeMaskLoss()
    config = detectron2_recipe(recipe, "cascade_maskrcnn_resnet50_fpn", loss, rounds)
    data = dataclasses.replace(config.data, masks=True, mask_size=112)
    return dataclasses.replace(config, data=data)
