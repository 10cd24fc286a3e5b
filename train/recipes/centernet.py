"""CenterNet (arXiv 1904.07850) on embedded scenes of digits, COCO, and your own COCO json."""

import dataclasses

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.recipes.faster_rcnn import fasterrcnn_digit_scenes
from train.recipes.parts.coco import COCO, COCO_IMAGES, OWN_COCO, square_parts
from train.tasks.detection import Detection
from zoo.models.detection.centernet_pose.loss import CenterNetPoseLoss
from zoo.models.detection.parts.centre_loss import CenterNetLoss

_IMAGES_OF_PEOPLE = 64_115  # of train2017


def centernet_digit_scenes() -> Config:
    """A small CenterNet on embedded scenes of one to six real digits, from scratch.

        python -m train centernet_digit_scenes --workdir=DIR

    The settings are those of Faster R-CNN, with half the steps, each of which takes twice as long.
    AP 0.699, AP50 0.946 and AP75 0.845 of the last checkpoint on the 500 held-out scenes, half-way
    0.666 and 0.933, after 13 minutes 21 s on one of two CPU cores (the other one trained, too),
    with GLIBC_TUNABLES=glibc.malloc.hugetlb=1.
    """
    return dataclasses.replace(
        fasterrcnn_digit_scenes(),
        recipe="centernet_digit_scenes",
        model=ModelConfig("centernet_nano"),
        task=Detection(CenterNetLoss()),
        steps=1_250,
        eval_every=625,
    )


def centernet_resnet18_dcn_coco() -> Config:
    """CenterNet with a ResNet-18 on COCO, with the authors' schedule.

        python -m train centernet_resnet18_dcn_coco --data.source=coco:DIR --init_backbone=RESNET18

    DIR has COCO's ``annotations/``, ``train2017/`` and ``val2017/``; RESNET18 is torchvision's
    ``resnet18-f37072fd.pth``. Published: 28.1 AP, with mirrored images as well 30.0. Not run by us.

    140 epochs of squares of 512 px, whose side is 0.6 to 1.3 times the longer side of the image;
    Adam, whose rate drops after 90 and 120 epochs. Evaluation is at the size of the images.

    Deviations: the colours of images are not changed; batch norm uses the statistics of the whole
    batch, not of one device; the warm-up of 500 steps.
    """
    return _coco("centernet_resnet18_dcn_coco", "centernet_resnet18_dcn", 5e-4, 114)


def centernet_resnet101_dcn_coco() -> Config:
    """As `centernet_resnet18_dcn_coco`, with a ResNet-101: published, 34.6 AP."""
    return _coco("centernet_resnet101_dcn_coco", "centernet_resnet101_dcn", 3.75e-4, 96)


def centernet_dla34_coco() -> Config:
    """As `centernet_resnet18_dcn_coco`, with a DLA-34: published, 36.3 AP.

    ``--init_backbone`` takes timm's weights of ``dla34``, or the authors' ``dla34-ba72cf86.pth``.
    """
    return _coco("centernet_dla34_coco", "centernet_dla34", 5e-4, 128)


def centernet_dla34_coco_2x() -> Config:
    """As `centernet_dla34_coco`, for 230 epochs: published, 37.4 AP."""
    return _coco(
        "centernet_dla34_coco_2x", "centernet_dla34", 5e-4, 128, epochs=230, drops=(180, 210)
    )


def centernet_hourglass104_coco() -> Config:
    """As `centernet_resnet18_dcn_coco`, with two hourglasses: published, 40.3 AP.

    50 epochs; the authors start from a detector of extreme points, ExtremeNet.
    """
    config = _coco(
        *("centernet_hourglass104_coco", "centernet_hourglass104", 2.5e-4, 24),
        epochs=50,
        drops=(40,),
    )
    buckets = ((512, 640), (640, 512), (640, 640))  # multiples of 128
    return dataclasses.replace(config, data=dataclasses.replace(config.data, buckets=buckets))


def _coco(
    recipe: str,
    model: str,
    rate: float,
    batch: int,
    *,
    epochs: int = 140,
    drops: tuple[int, ...] = (90, 120),
) -> Config:
    """The authors' training on COCO: learning rate, images of a batch, epochs of the drops."""
    return Config(
        recipe=recipe,
        model=ModelConfig(model),
        data=square_parts(COCO),
        task=Detection(CenterNetLoss()),
        optim=OptimConfig(
            learning_rate=rate,
            schedule="step",
            drop_at=tuple(drop / epochs for drop in drops),
            warmup_steps=500,
        ),
        steps=epochs * COCO_IMAGES // batch,
        batch_size=batch,
        log_every=100,
        eval_every=5_000,
        checkpoint_every=2_000,
    )


def centernet_finetune() -> Config:
    """A public CenterNet, fine-tuned on your own COCO json.

        python -m train.doctor centernet_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train centernet_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN

    CHECKPOINT is the authors' ``ctdet_coco_dla_2x.pth``. With their ``ctdet_coco_resdcn18.pth``, or
    mmdet's ``centernet_resnet18_dcnv2_140e_coco_20210702_155131-c8cd631f.pth``, give
    ``--model.name=centernet_resnet18_dcn``. `fasterrcnn_finetune` says what DIR has. The last layer
    of the heat maps is initialised, all other parameters come from the checkpoint. Evaluation is at
    the size of the images, or at 640 px if they are larger. Not run by us on public weights.
    """
    return Config(
        recipe="centernet_finetune",
        model=ModelConfig("centernet_dla34"),
        data=square_parts(OWN_COCO),
        task=Detection(CenterNetLoss()),
        optim=OptimConfig(
            learning_rate=1e-4, schedule="step", drop_at=0.8, warmup_steps=500, clip_norm=35.0
        ),
        steps=5_000,
        batch_size=16,
        log_every=50,
        eval_every=500,
        checkpoint_every=500,
    )


def centernet_pose_dla34_coco() -> Config:
    """CenterNet for people on COCO, with the authors' schedule.

        python -m train centernet_pose_dla34_coco --data.source=coco:DIR --init_backbone=DLA34

    DIR has COCO's ``annotations/person_keypoints_train2017.json`` and so on; DLA34 is as in
    `centernet_dla34_coco`; the authors start from a CenterNet for boxes. Published, with mirrored
    images as well: 54.7 AP of the joints. Not run by us.

    Deviations: those of `centernet_resnet18_dcn_coco`; images without people are trained on, too,
    in as many steps as the authors need without them.
    """
    return _pose("centernet_pose_dla34_coco", 140, (90, 120))


def centernet_pose_dla34_coco_3x() -> Config:
    """As `centernet_pose_dla34_coco`, for 320 epochs: published, 58.9 AP of the joints."""
    return _pose("centernet_pose_dla34_coco_3x", 320, (270, 300))


def _pose(recipe: str, epochs: int, drops: tuple[int, int]) -> Config:
    """The authors' training on COCO's people."""
    config = _coco(recipe, "centernet_pose_dla34", 5e-4, 128, epochs=epochs, drops=drops)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, max_objects=32, keypoints=True),
        task=Detection(CenterNetPoseLoss()),
        steps=epochs * _IMAGES_OF_PEOPLE // config.batch_size,
    )


def centernet_pose_finetune() -> Config:
    r"""A public CenterNet for people, fine-tuned on your own COCO json with keypoints.

        python -m train.doctor centernet_pose_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train centernet_pose_finetune --data.source=coco:DIR --init=CHECKPOINT \
            --workdir=RUN
        python -m eval.detection --workdir=RUN --iou_type=keypoints

    CHECKPOINT is the authors' ``multi_pose_dla_3x.pth``. `keypointrcnn_finetune` says what DIR has.
    The last layers of the heat maps and of the joints are initialised if your data have other
    numbers of classes or joints than the checkpoint, which has one class and COCO's 17 joints; all
    other parameters come from the checkpoint. Not run by us on public weights.
    """
    boxes = centernet_finetune()
    return dataclasses.replace(
        boxes,
        recipe="centernet_pose_finetune",
        model=ModelConfig("centernet_pose_dla34"),
        data=dataclasses.replace(boxes.data, keypoints=True),
        task=Detection(CenterNetPoseLoss()),
    )
