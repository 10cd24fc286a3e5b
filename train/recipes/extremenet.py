"""ExtremeNet (arXiv 1901.08043) on embedded scenes of digits, on COCO, and on your own COCO json.

The extreme points are those of the objects' masks. The settings are those of CornerNet.
"""

import dataclasses

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.recipes.cornernet import cornernet_digit_scenes, cornernet_finetune
from train.recipes.parts.coco import COCO, OWN_COCO, square_parts
from train.tasks.detection import Detection
from zoo.data import DetectionData
from zoo.models.detection.extremenet.loss import ExtremeNetLoss


def extremenet_digit_scenes() -> Config:
    """A small ExtremeNet on embedded scenes of one to six real digits, from scratch.

        python -m train extremenet_digit_scenes --workdir=DIR

    400 steps of `train.doctor` on one batch of 8 scenes give AP 1 on it. The whole recipe has not
    been run.
    """
    corners = cornernet_digit_scenes()
    return dataclasses.replace(
        corners,
        recipe="extremenet_digit_scenes",
        model=ModelConfig("extremenet_nano"),
        data=dataclasses.replace(corners.data, masks=True),
        task=Detection(ExtremeNetLoss()),
    )


def extremenet_hourglass104_coco() -> Config:
    """ExtremeNet on COCO, from scratch, with the authors' longer schedule.

        python -m train extremenet_hourglass104_coco --data.source=coco:DIR --workdir=RUN
        python -m eval.detection --workdir=RUN

    DIR has COCO's ``annotations/``, ``train2017/`` and ``val2017/``. 500,000 steps of 24 images,
    with Adam at 2.5e-4, and at a tenth of it for the last fifth. Published: 43.9 AP on several
    scales, with mirrored images as well. Not run by us.

    Deviations: images are resized to at most 479 x 639 px and not cropped, the colours are not
    changed. The paper's 40.3 AP are of 250,000 steps from the weights of a CornerNet.
    """
    return Config(
        recipe="extremenet_hourglass104_coco",
        model=ModelConfig("extremenet_hourglass104"),
        data=_with_masks(COCO),
        task=Detection(ExtremeNetLoss()),
        optim=OptimConfig(learning_rate=2.5e-4, schedule="step", drop_at=0.8),
        steps=500_000,
        batch_size=24,
        log_every=100,
        eval_every=25_000,
        checkpoint_every=5_000,
    )


def extremenet_finetune() -> Config:
    """A public ExtremeNet, fine-tuned on your own COCO json with masks.

        python -m train.doctor extremenet_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train extremenet_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN

    CHECKPOINT is the authors' ``ExtremeNet_250000.pkl``. `fasterrcnn_finetune` says what DIR has.
    The last layers for classes are initialised, all other parameters come from the checkpoint. Not
    run by us on public weights.
    """
    return dataclasses.replace(
        cornernet_finetune(),
        recipe="extremenet_finetune",
        model=ModelConfig("extremenet_hourglass104"),
        data=_with_masks(OWN_COCO),
        task=Detection(ExtremeNetLoss()),
    )


def _with_masks(data: DetectionData) -> DetectionData:
    """Masks in the objects' own boxes, which take less memory; such images cannot be cropped."""
    return dataclasses.replace(
        square_parts(data),
        zoom=None,
        buckets=((511, 639), (639, 511)),  # one pixel less than multiples of 128
        short_sides=tuple(range(287, 480, 32)),
        long_side=639,
        masks=True,
        mask_size=112,
    )
