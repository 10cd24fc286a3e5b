"""EfficientDet (arXiv 1911.09070) on embedded scenes of digits, COCO, and your own COCO json.

The settings of the embedded scenes are those of Faster R-CNN.
"""

import dataclasses

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.recipes.faster_rcnn import fasterrcnn_digit_scenes, fasterrcnn_finetune
from train.recipes.parts.coco import COCO, COCO_IMAGES, OWN_COCO
from train.tasks.detection import Detection
from zoo.models.detection.efficientdet.loss import EfficientDetLoss

# Images whose longer side fits a square, padded below and on the right.
_SQUARE = {"buckets": ((512, 512),), "short_sides": (512,), "long_side": 512}

# Larger than the nano, with a map of stride 16 for the largest digits.
_SCENES = {
    "backbone_fields": {
        "stem_dim": 32,
        "num_blocks": (1, 2, 2),
        "stage_dims": (32, 64, 96),
        "expansions": (1, 3, 3),
    },
    "num_cells": 2,
    "num_extra": 1,
    "num_convs": 2,
    "anchor_fields": {
        "sizes": ((8.0, 10.0, 12.5), (12.5, 16.0, 20.0), (20.0, 25.0, 30.0)),
        "shapes": ((1.0, 1.0), (0.82, 1.22), (0.67, 1.48)),
    },
}


def efficientdet_digit_scenes() -> Config:
    """A small EfficientDet on embedded scenes of one to six real digits, from scratch.

        python -m train efficientdet_digit_scenes --workdir=DIR

    The backbone is larger than the nano's. AP 0.663, AP50 0.926 and AP75 0.801 of the last
    checkpoint on the 500 held-out scenes, half-way 0.637 and 0.913, in 20 minutes of CPU. The boxes
    weigh 10, not 50: with 50 they are learnt long before the classes.
    """
    return dataclasses.replace(
        fasterrcnn_digit_scenes(),
        recipe="efficientdet_digit_scenes",
        model=ModelConfig("efficientdet_nano", _SCENES),
        task=Detection(EfficientDetLoss(box_weight=10.0)),
    )


def efficientdet_d0_coco() -> Config:
    """EfficientDet-D0 on COCO, with the paper's schedule.

        python -m train efficientdet_d0_coco --data.source=coco:DIR --init_backbone=EFFICIENTNET

    DIR has COCO's ``annotations/``, ``train2017/`` and ``val2017/``; EFFICIENTNET is timm's
    ``efficientnet_b0_ra-3dd342df.pth``. From the paper and google/automl: 300 epochs of batches of
    128 images, momentum 0.9, a rate of 0.08 for each 64 images that rises over the first epoch and
    falls along a cosine, weight decay 4e-5, gradients of norm 10 at most, mirroring, images of 0.1
    to 2 times the size of 512 px, and an average of the weights that decays by 0.9998. Batch norm
    is trained on the statistics of the whole batch. Published: 34.6 AP of the paper's, 33.6 of
    effdet's D0 with this padding.

    For another size, give model and sides: ``--model.name=efficientdet_d1
    --data.buckets=[[640,640]] --data.short_sides=640 --data.long_side=640``. Deviations: biases and
    norms do not decay; running statistics move by a tenth a step. Not run by us.
    """
    batch, data = 128, dataclasses.replace(COCO, **_SQUARE, scale_jitter=(0.1, 2.0))
    epoch = COCO_IMAGES // batch
    return Config(
        recipe="efficientdet_d0_coco",
        model=ModelConfig("efficientdet_d0"),
        data=data,
        task=Detection(EfficientDetLoss()),
        optim=OptimConfig(
            name="sgd",
            learning_rate=0.08 * batch / 64,
            nesterov=False,
            warmup_steps=epoch,
            weight_decay=4e-5,
            clip_norm=10.0,
        ),
        steps=300 * epoch,
        batch_size=batch,
        log_every=100,
        eval_every=10 * epoch,
        checkpoint_every=epoch,
        ema=0.9998,
    )


def efficientdet_finetune() -> Config:
    """A public EfficientDet, fine-tuned on your own COCO json.

        python -m train.doctor efficientdet_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train efficientdet_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN

    CHECKPOINT is effdet's ``tf_efficientdet_d0_34-f153e0cf.pth``. With
    ``tf_efficientdet_d1_40-a30f94af.pth``, give ``--model.name=tf_efficientdet_d1
    --data.buckets=[[640,640]] --data.short_sides=640 --data.long_side=640``, and so on.
    `fasterrcnn_finetune` says what DIR has. The last layer for classes is initialised, all other
    parameters come from the checkpoint; norms keep their statistics, as batches are small, and the
    backbone's first convolution and blocks stay as they are. Not run by us on public weights.
    """
    boxes = fasterrcnn_finetune()
    frozen = {"body/stem_*": 0.0, "body/stages_0_*": 0.0, "body/stages_1_*": 0.0}
    return dataclasses.replace(
        boxes,
        recipe="efficientdet_finetune",
        model=ModelConfig("tf_efficientdet_d0", {"norm": "frozen"}),
        data=dataclasses.replace(OWN_COCO, **_SQUARE, scale_jitter=(0.5, 1.5)),
        task=Detection(EfficientDetLoss()),
        optim=dataclasses.replace(
            boxes.optim,
            learning_rate=0.01,
            schedule="cosine",
            weight_decay=4e-5,
            clip_norm=10.0,
            multipliers=frozen,
        ),
        batch_size=16,
    )
