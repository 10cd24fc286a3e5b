"""Mask R-CNN (arXiv 1703.06870) on embedded scenes of digits, on COCO, and on your own COCO json.

The settings are those of Faster R-CNN.
"""

import dataclasses

from train.config import Config, ModelConfig
from train.recipes.faster_rcnn import fasterrcnn_digit_scenes, fasterrcnn_finetune
from train.recipes.parts.coco import detectron2_recipe
from train.tasks.detection import Detection
from zoo.models.detection.parts.losses import DETECTRON2_LOSS
from zoo.models.detection.parts.mask_loss import MaskRCNNLoss


def maskrcnn_digit_scenes() -> Config:
    """A small Mask R-CNN on embedded scenes of one to six real digits, from scratch.

        python -m train maskrcnn_digit_scenes --workdir=DIR

    The targets of the masks are detectron2's. With torchvision's, which lie half a pixel beside the
    object, a perfect model would have a mean IoU of 0.76 on these thin strokes, instead of 1.00.
    The mask head has batch norm, and sees the stem's map of stride 2: on top of a trained Faster
    R-CNN, 400 steps gave a mask AP of 0.265 without either, 0.356 with the map, 0.445 with both.

    AP 0.692 and AP50 0.924, of the masks 0.679 and 0.880, of the last checkpoint on the 500
    held-out scenes; half-way 0.654 and 0.901, and 0.649 and 0.856. The run took an hour of two CPU
    cores that ran much other work (34 minutes of CPU time), with
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1.
    """
    boxes = fasterrcnn_digit_scenes()
    return dataclasses.replace(
        boxes,
        recipe="maskrcnn_digit_scenes",
        model=ModelConfig("maskrcnn_nano", {"mask_norm": "batch", "mask_detail": True}),
        data=dataclasses.replace(boxes.data, masks=True),
        task=Detection(MaskRCNNLoss(binary_masks=True)),
    )


def maskrcnn_resnet50_fpn_coco() -> Config:
    """Mask R-CNN on COCO: detectron2's ``mask_rcnn_R_50_FPN_1x``.

        python -m train maskrcnn_resnet50_fpn_coco --data.source=coco:DIR --init_backbone=RESNET50

    Published: 38.6 AP of boxes and 35.2 of masks. Not run by us. `fasterrcnn_resnet50_fpn_coco`
    has the data and RESNET50.
    """
    return _coco("maskrcnn_resnet50_fpn_coco")


def maskrcnn_resnet50_fpn_coco_3x() -> Config:
    """As `maskrcnn_resnet50_fpn_coco`, with three times the steps: published, 41.0 and 37.2 AP."""
    return _coco("maskrcnn_resnet50_fpn_coco_3x", rounds=3)


def _coco(recipe: str, rounds: int = 1) -> Config:
    """detectron2's recipe, with its conventions for masks."""
    loss = MaskRCNNLoss(**vars(DETECTRON2_LOSS), binary_masks=True)
    config = detectron2_recipe(recipe, "maskrcnn_resnet50_fpn", loss, rounds)
    fields = {**config.model.fields, "paste": "centres", "decoding_fields": {"min_size": 0.0}}
    return dataclasses.replace(
        config,
        model=ModelConfig(config.model.name, fields),
        data=dataclasses.replace(config.data, masks=True, mask_size=112),
    )


def maskrcnn_finetune() -> Config:
    """A public Mask R-CNN, fine-tuned on your own COCO json with masks.

        python -m train.doctor maskrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train maskrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN --iou_type=segm

    CHECKPOINT is torchvision's ``maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth``. With its version 2,
    ``maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth``, give ``--model.name=maskrcnn_resnet50_fpn_v2``.
    `fasterrcnn_finetune` says what DIR has; its json must have masks. The last layers of the heads
    are initialised, all other parameters come from the checkpoint. Not run by us on public weights.
    """
    boxes = fasterrcnn_finetune()
    return dataclasses.replace(
        boxes,
        recipe="maskrcnn_finetune",
        model=ModelConfig("maskrcnn_resnet50_fpn"),
        data=dataclasses.replace(boxes.data, masks=True, mask_size=112),
        task=Detection(MaskRCNNLoss()),
    )
