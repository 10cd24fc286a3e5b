"""SSD (arXiv 1512.02325) on embedded scenes of digits, COCO, and your own COCO json.

The settings of the embedded scenes are those of Faster R-CNN.
"""

import dataclasses

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.recipes.faster_rcnn import fasterrcnn_digit_scenes, fasterrcnn_finetune
from train.recipes.parts.coco import COCO, COCO_IMAGES
from train.tasks.detection import Detection
from zoo.models.detection.ssd.loss import SSDLoss

# Images whose longer side fits a square, padded below and on the right.
_SQUARE = {"buckets": ((300, 300),), "short_sides": (300,), "long_side": 300}


def ssd_digit_scenes() -> Config:
    """A small SSD on embedded scenes of one to six real digits, from scratch.

        python -m train ssd_digit_scenes --workdir=DIR

    AP 0.674, AP50 0.938 and AP75 0.821 of the last checkpoint on the 500 held-out scenes, half-way
    0.648 and 0.929, after 11 minutes 33 s on one of two CPU cores (the other one trained, too),
    with GLIBC_TUNABLES=glibc.malloc.hugetlb=1.
    """
    return dataclasses.replace(
        fasterrcnn_digit_scenes(),
        recipe="ssd_digit_scenes",
        model=ModelConfig("ssd_nano"),
        task=Detection(SSDLoss()),
    )


def ssd300_vgg16_coco() -> Config:
    """SSD300 on COCO, with torchvision's schedule of 120 epochs.

        python -m train ssd300_vgg16_coco --data.source=coco:DIR --init_backbone=VGG16

    DIR has COCO's ``annotations/``, ``train2017/`` and ``val2017/``; VGG16 is torchvision's
    ``vgg16_features-amdegroot-88682ab5.pth``. From torchvision: batches of 32 images, rate, drops,
    weight decay, and the first stage of the VGG as it is. Published: 25.1 AP. Not run by us.

    Deviations: instead of changed colours, images on a canvas of up to four times their sides, and
    crops around objects, images have 0.25 to 2 times the size that fits; they keep their aspect and
    are padded to a square; the warm-up begins at 0.
    """
    batch, epochs = 32, 120
    return Config(
        recipe="ssd300_vgg16_coco",
        model=ModelConfig("ssd300_vgg16"),
        data=dataclasses.replace(COCO, **_SQUARE, mean=None, std=None, scale_jitter=(0.25, 2.0)),
        task=Detection(SSDLoss()),
        optim=OptimConfig(
            name="sgd",
            learning_rate=0.002,
            nesterov=False,
            schedule="step",
            drop_at=(80 / epochs, 110 / epochs),
            warmup_steps=1000,
            weight_decay=5e-4,
            multipliers={"body/stages_0_*": 0.0},
        ),
        steps=epochs * COCO_IMAGES // batch,
        batch_size=batch,
        log_every=100,
        eval_every=10_000,
        checkpoint_every=5_000,
    )


def ssd_finetune() -> Config:
    """A public SSD, fine-tuned on your own COCO json.

        python -m train.doctor ssd_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train ssd_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN

    CHECKPOINT is torchvision's ``ssd300_vgg16_coco-b556d3b4.pth``. With its SSDLite,
    ``ssdlite320_mobilenet_v3_large_coco-a79551df.pth``, give
    ``--model.name=ssdlite320_mobilenet_v3_large --data.buckets=[[320,320]] --data.short_sides=320
    --data.long_side=320``.
    `fasterrcnn_finetune` says what DIR has. Images keep their aspect and are padded to a square;
    torchvision trains without it. The last layers for classes are initialised, all other
    parameters come from the checkpoint; the first stage of the VGG stays as it is. Not run by us on
    public weights.
    """
    boxes = fasterrcnn_finetune()
    data = dataclasses.replace(boxes.data, **_SQUARE)
    optim = dataclasses.replace(
        boxes.optim, learning_rate=0.002, multipliers={"body/stages_0_*": 0.0}
    )
    return dataclasses.replace(
        boxes,
        recipe="ssd_finetune",
        model=ModelConfig("ssd300_vgg16"),
        data=data,
        task=Detection(SSDLoss()),
        optim=optim,
        batch_size=32,
    )
