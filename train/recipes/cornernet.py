"""CornerNet (arXiv 1808.01244) on embedded scenes of digits, on COCO, and on your own COCO json."""

import dataclasses

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.recipes.faster_rcnn import fasterrcnn_digit_scenes
from train.recipes.parts.coco import COCO, OWN_COCO, square_parts
from train.tasks.detection import Detection
from zoo.models.detection.cornernet.loss import CornerNetLoss


def cornernet_digit_scenes() -> Config:
    """A small CornerNet on embedded scenes of one to six real digits, from scratch.

        python -m train cornernet_digit_scenes --workdir=DIR

    The settings are those of Faster R-CNN, with half the steps, each of which takes twice as long.
    AP 0.641, AP50 0.866 and AP75 0.764 of the last checkpoint on the 500 held-out scenes, half-way
    0.601 and 0.840, after 12 minutes 23 s on one of two CPU cores (the other one trained, too),
    with GLIBC_TUNABLES=glibc.malloc.hugetlb=1.
    """
    return dataclasses.replace(
        fasterrcnn_digit_scenes(),
        recipe="cornernet_digit_scenes",
        model=ModelConfig("cornernet_nano"),
        task=Detection(CornerNetLoss()),
        steps=1_250,
        eval_every=625,
    )


def cornernet_hourglass104_coco() -> Config:
    """CornerNet on COCO, from scratch, with the authors' schedule.

        python -m train cornernet_hourglass104_coco --data.source=coco:DIR --workdir=RUN
        python -m eval.detection --workdir=RUN

    DIR has COCO's ``annotations/``, ``train2017/`` and ``val2017/``. 500,000 steps of 49 images,
    with Adam at 2.5e-4, and at a tenth of it for the last tenth. Published: 40.5 AP on the test
    set, with mirrored images as well. Not run by us.

    Training takes squares of 511 px. Evaluation is at the size of the images.

    Deviations: the squares are 0.6 to 1.3 times as large as the longer side of the image, as
    CenterNet's; theirs are 0.6 to 1.3 times 511 px. The colours are not changed.
    """
    return Config(
        recipe="cornernet_hourglass104_coco",
        model=ModelConfig("cornernet_hourglass104"),
        data=dataclasses.replace(square_parts(COCO), zoom_side=511),
        task=Detection(CornerNetLoss()),
        optim=OptimConfig(learning_rate=2.5e-4, schedule="step", drop_at=0.9),
        steps=500_000,
        batch_size=49,
        log_every=100,
        eval_every=25_000,
        checkpoint_every=5_000,
    )


def cornernet_finetune() -> Config:
    """A public CornerNet, fine-tuned on your own COCO json.

        python -m train.doctor cornernet_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train cornernet_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN

    CHECKPOINT is the authors' ``CornerNet_500000.pkl``, or mmdet's
    ``cornernet_hourglass104_mstest_10x5_210e_coco_20200824_185720-5fefbf1c.pth``.
    `fasterrcnn_finetune` says what DIR has. The last layers for classes are initialised, all other
    parameters come from the checkpoint. Not run by us on public weights.
    """
    return dataclasses.replace(
        cornernet_hourglass104_coco(),
        recipe="cornernet_finetune",
        data=dataclasses.replace(square_parts(OWN_COCO), zoom_side=511),
        optim=OptimConfig(
            learning_rate=5e-5, schedule="step", drop_at=0.8, warmup_steps=500, clip_norm=35.0
        ),
        steps=5_000,
        batch_size=8,
        log_every=50,
        eval_every=500,
        checkpoint_every=500,
    )
