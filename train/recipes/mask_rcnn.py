"""Mask R-CNN (arXiv 1703.06870) on embedded scenes of digits, and on your own COCO json."""

from train.config import Config
from train.recipes.parts.rcnn import rcnn_digit_scenes, rcnn_finetune
from zoo.models.detection.mask_rcnn.loss import MaskRCNNLoss


def maskrcnn_digit_scenes() -> Config:
    """A small Mask R-CNN on embedded scenes of one to six real digits, from scratch.

        python -m train maskrcnn_digit_scenes --workdir=DIR

    The targets of the masks are detectron2's. With torchvision's, which lie half a pixel beside the
    object, a perfect model would have a mean IoU of 0.76 on these thin strokes, instead of 1.00.
    """
    loss = MaskRCNNLoss(binary_masks=True)
    return rcnn_digit_scenes("maskrcnn_digit_scenes", "maskrcnn_nano", loss, masks=True)


def maskrcnn_finetune() -> Config:
    """A public Mask R-CNN, fine-tuned on your own COCO json with masks.

        python -m train.doctor maskrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train maskrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN

    CHECKPOINT is torchvision's ``maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth``, or with
    ``--model.name=maskrcnn_resnet50_fpn_v2`` its ``maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth``.
    DIR has ``annotations/instances_train.json``, ``annotations/instances_val.json`` and the images
    in ``train/`` and ``val/``; `detr_finetune` says how to set other paths. The layers that predict
    classes, boxes and masks are initialised, all other parameters come from the checkpoint.
    """
    return rcnn_finetune("maskrcnn_finetune", "maskrcnn_resnet50_fpn", MaskRCNNLoss(), masks=True)
