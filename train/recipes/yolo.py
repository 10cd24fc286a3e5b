"""The YOLOs on embedded scenes of digits, COCO, PASCAL VOC, and your own COCO json.

Papers: arXiv 1506.02640 (v1), 1612.08242 (v2), 1804.02767 (v3).
"""

import dataclasses
from typing import Any

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.recipes.faster_rcnn import fasterrcnn_digit_scenes, fasterrcnn_finetune
from train.recipes.parts.coco import COCO, COCO_IMAGES
from train.tasks.detection import Detection
from zoo.data import DetectionData
from zoo.models.detection.parts.yolo_loss import DARKNET_V2, MMDET, YoloLoss
from zoo.models.detection.yolov1.loss import YoloV1Loss

_PIXELS: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
_VOC_IMAGES = 16_551  # of VOC 2007 trainval and 2012 trainval
# Stages of 16, 48, 96 and 128 features, with one, two and one residual blocks.
_WIDE = {
    "num_convs": (1, 3, 5, 3),
    "conv_dims": (16, *(48, 24, 48), *(96, 48, 96, 48, 96), *(128, 64, 128)),
    "conv_sizes": (3, *(3, 1, 3), *(3, 1, 3, 1, 3), *(3, 1, 3)),
}


def yolo_digit_scenes() -> Config:
    """A small YOLO v3 on embedded scenes of one to six real digits, from scratch.

        python -m train yolo_digit_scenes --workdir=DIR

    Grids of 16 x 16 and 8 x 8 cells, with anchors of the digits' sizes, and a backbone that is
    wider than that of ``yolov3_nano``. The other settings are those of `fasterrcnn_digit_scenes`.
    AP 0.705, AP50 0.952 and AP75 0.857 of the last checkpoint on the 500 held-out scenes, half-way
    0.678 and 0.939, after 11 minutes 49 s on one of two CPU cores (the other one trained, too),
    with GLIBC_TUNABLES=glibc.malloc.hugetlb=1.
    """
    return dataclasses.replace(
        fasterrcnn_digit_scenes(),
        recipe="yolo_digit_scenes",
        model=ModelConfig("yolov3_nano", {"backbone_fields": _WIDE, "neck_dims": (48, 64)}),
        task=Detection(YoloLoss()),
    )


def yolov3_finetune() -> Config:
    """A public YOLO v3, fine-tuned on your own COCO json.

        python -m train.doctor yolov3_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train yolov3_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN

    CHECKPOINT is darknet's ``yolov3.weights``. With ``yolov3-spp.weights`` give
    ``--model.name=yolov3_spp``, with ``yolov3-tiny.weights`` ``--model.name=yolov3_tiny``.
    `fasterrcnn_finetune` says what DIR has. Images are letterboxed to 416 x 416. The last layers
    for classes are initialised; boxes, objectness and all other parameters come from the
    checkpoint; the first four convolutions stay as they are, and the backbone's norms are
    constants. Not run by us on public weights.
    """
    boxes = fasterrcnn_finetune()
    data = dataclasses.replace(
        boxes.data, buckets=((416, 416),), short_sides=(), long_side=416, letterbox=True
    )
    optim = dataclasses.replace(
        boxes.optim,
        learning_rate=0.001,
        weight_decay=5e-4,
        multipliers={"body/conv_[0-3]": 0.0},
    )
    return dataclasses.replace(
        boxes,
        recipe="yolov3_finetune",
        model=ModelConfig("yolov3", {"backbone_fields": {"norm": "frozen"}}),
        data=data,
        task=Detection(YoloLoss()),
        optim=optim,
        batch_size=16,
    )


def yolov3_coco() -> Config:
    """YOLO v3 on COCO with mmdet's schedule of 273 epochs: ``yolov3_d53_8xb8-ms-608-273e_coco``.

        python -m train yolov3_coco --data.source=coco:DIR --init_backbone=DARKNET53

    DIR has COCO's ``annotations/``, ``train2017/`` and ``val2017/``; DARKNET53 is darknet's
    ``darknet53.conv.74`` or ``darknet53.weights``. From mmdet: losses, assignment, learning rate
    for 64 images, warm-up, drops, decay, clipping, and longer sides of about 300 to 608 px.
    Published: 33.7 AP. Not run by us.

    Deviations: no expansion of the image, crops around objects, or changes of colour; the
    statistics of the backbone's norms are trained; the loss is the mean over images where mmdet
    has the sum over the 8 images of a device, so the rate is 8 times as large.
    """
    batch, epochs, images = 64, 273, 8
    return dataclasses.replace(
        _coco("yolov3_coco", "yolov3", MMDET),
        model=ModelConfig(
            "yolov3", {"decoding_fields": {"classes_first": True, "score_threshold": 0.05}}
        ),
        data=dataclasses.replace(
            COCO,
            buckets=((608, 608),),
            short_sides=tuple(range(224, 481, 32)),
            long_side=608,
            **_PIXELS,
        ),
        optim=OptimConfig(
            name="sgd",
            learning_rate=0.001 * images,
            nesterov=False,
            schedule="step",
            drop_at=(218 / epochs, 246 / epochs),
            warmup_steps=2000,
            weight_decay=5e-4 / images,
            clip_norm=35.0 / images,
        ),
        steps=epochs * COCO_IMAGES // batch,
    )


def yolov3_coco_darknet() -> Config:
    """YOLO v3 on COCO with darknet's schedule, of ``cfg/yolov3.cfg``: 500,200 batches of 64.

        python -m train yolov3_coco_darknet --data.source=coco:DIR --init_backbone=DARKNET53

    `yolov3_coco` has DIR and DARKNET53. Published: 57.9 AP50 on COCO's test set at 608 px. Not run
    by us.

    Deviations: images are letterboxed and mirrored, but neither moved, stretched nor changed in
    colour; one size of images instead of 320 to 608 px; the rate rises linearly, not by its fourth
    power.
    """
    return _coco("yolov3_coco_darknet", "yolov3", YoloLoss())


def yolov2_coco() -> Config:
    """YOLO v2 on COCO with darknet's schedule, of ``cfg/yolov2.cfg``: 500,200 batches of 64.

        python -m train yolov2_coco --data.source=coco:DIR --init_backbone=DARKNET19

    `yolov3_coco` has DIR; DARKNET19 is darknet's ``darknet19_448.conv.23`` or
    ``darknet19_448.weights``. Published: 48.1 AP50 on COCO's test set at 608 px. Not run by us. The
    deviations are those of `yolov3_coco_darknet`.
    """
    return _coco("yolov2_coco", "yolov2", DARKNET_V2)


def yolov1_voc() -> Config:
    """YOLO v1 on PASCAL VOC with the paper's 135 epochs.

        python -m train yolov1_voc --data.source=voc:DIR --init_backbone=EXTRACTION

    DIR has the folders of VOC's devkit; EXTRACTION is darknet's ``extraction.conv.weights`` or
    ``extraction.weights``. From the paper: batch, learning rate (0.001 rising to 0.01 in the
    first epochs, then a tenth of it after 75 and 105 more epochs of the 135), momentum, decay and
    dropout. Published: 63.4 mAP on VOC 2007, trained on 2007 and 2012. Not run by us.

    Deviations: images are letterboxed and mirrored, but neither moved, scaled nor changed in
    colour; the paper does not keep the aspect.
    """
    batch, epochs = 64, 135
    steps = epochs * _VOC_IMAGES // batch
    return dataclasses.replace(
        _coco("yolov1_voc", "yolov1", YoloV1Loss()),
        data=DetectionData(
            source="voc:voc",
            train_split="trainval",
            eval_split="test",
            buckets=((448, 448),),
            max_objects=60,
            letterbox=True,
            flip=True,
            **_PIXELS,
        ),
        optim=OptimConfig(
            name="sgd",
            learning_rate=0.01,
            nesterov=False,
            schedule="step",
            drop_at=(75 / epochs, 105 / epochs),
            warmup_steps=steps // epochs,
            weight_decay=5e-4,
        ),
        steps=steps,
    )


def _coco(recipe: str, model: str, loss: Any) -> Config:
    """A detector on letterboxed images of COCO, with darknet's schedule."""
    steps = 500_200
    data = dataclasses.replace(
        COCO, buckets=((608, 608),), short_sides=(), long_side=608, letterbox=True, **_PIXELS
    )
    return Config(
        recipe=recipe,
        model=ModelConfig(model),
        data=data,
        task=Detection(loss),
        optim=OptimConfig(
            name="sgd",
            learning_rate=0.001,
            nesterov=False,
            schedule="step",
            drop_at=(400_000 / steps, 450_000 / steps),
            warmup_steps=1000,
            weight_decay=5e-4,
        ),
        steps=steps,
        batch_size=64,
        log_every=100,
        eval_every=10_000,
        checkpoint_every=5_000,
    )
