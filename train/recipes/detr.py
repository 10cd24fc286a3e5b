"""DETR (arXiv 2005.12872) on embedded scenes of digits, on COCO, and on your own COCO json.

Do not scale the learning rate with the batch size: DETR diverges at linearly scaled rates.
"""

import dataclasses

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.recipes.parts.coco import COCO, COCO_IMAGES, OWN_COCO
from train.tasks.detection import Detection
from zoo.data import DetectionData
from zoo.models.detection.detr.loss import DetrLoss

_BATCH = 64
_EPOCH = round(COCO_IMAGES / _BATCH)

# The augmentation of the paper's section A.4.
_SIDES = tuple(range(480, 801, 32))
_COCO = dataclasses.replace(COCO, short_sides=_SIDES, random_crop=True)
_OWN = dataclasses.replace(OWN_COCO, short_sides=_SIDES, random_crop=True)

# As in the reference: a tenth of the learning rate for the backbone; its stem and first stage are
# frozen.
_OPTIM = OptimConfig(
    learning_rate=1e-4,
    schedule="step",
    drop_at=200 / 300,
    weight_decay=1e-4,
    clip_norm=0.1,
    multipliers={"body/stem_*": 0.0, "body/stages_0_*": 0.0, "body": 0.1},
)


def detr_digit_scenes() -> Config:
    """A small DETR on embedded scenes of one to six real digits, from scratch.

        python -m train detr_digit_scenes --workdir=DIR

    AP 0.690 and AP50 0.891 of the last checkpoint on the 500 held-out scenes, after 25 minutes 29 s
    on two CPU cores that also ran a few tests (39 minutes of CPU time). This was measured with
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 in the environment, as in make demo, with which a step
    takes a third less time. With --steps=10000, AP 0.703 and AP50 0.908. adamw, at 1e-3, needs four
    times as many steps until the model distinguishes the classes.
    """
    return Config(
        recipe="detr_digit_scenes",
        model=ModelConfig("detr_nano"),
        data=DetectionData(train_split="train[:500000]", threads=2),
        task=Detection(DetrLoss()),
        optim=OptimConfig(
            name="muon",
            learning_rate=5e-3,
            warmup_steps=200,
            weight_decay=0.02,
            b2=0.99,
            clip_norm=0.1,
        ),
        steps=7_500,
        batch_size=32,
        log_every=100,
        eval_every=2_500,
        checkpoint_every=1_000,
        ema=0.999,
    )


def detr_digit_scenes_short() -> Config:
    """The small DETR on digit scenes, with fewer steps for a demonstration.

        python -m train detr_digit_scenes_short --workdir=DIR

    AP 0.511 and AP50 0.744 of the last checkpoint on the 500 held-out scenes, after 6 minutes 12 s
    on two CPU cores, with GLIBC_TUNABLES=glibc.malloc.hugetlb=1.
    """
    return dataclasses.replace(
        detr_digit_scenes(), recipe="detr_digit_scenes_short", steps=1_800, eval_every=1_800
    )


def detr_resnet50_coco() -> Config:
    """DETR on COCO, with the paper's schedule of 300 epochs.

        python -m train detr_resnet50_coco --data.source=coco:DIR --init_backbone=RESNET50_FILE

    DIR has COCO's ``annotations/``, ``train2017/`` and ``val2017/``. The backbone starts from
    ImageNet weights; the paper uses torchvision's. Published: 42.0 AP after 500 epochs, 40.6 after
    300 (three days on 16 V100). Not run by us. Deviations from the reference: weight decay does not
    apply to norms and biases, and batches are padded to four shapes.
    """
    return Config(
        recipe="detr_resnet50_coco",
        model=ModelConfig("detr_resnet50"),
        data=_COCO,
        task=Detection(DetrLoss()),
        optim=_OPTIM,
        steps=300 * _EPOCH,
        batch_size=_BATCH,
        log_every=100,
        eval_every=10 * _EPOCH,
        checkpoint_every=_EPOCH,
    )


def detr_resnet50_coco_500() -> Config:
    """DETR on COCO, 500 epochs: the paper's best, 42.0 AP.

        python -m train detr_resnet50_coco_500 --data.source=coco:DIR --init_backbone=RESNET50_FILE

    As `detr_resnet50_coco`, but the learning rate drops after 400 epochs. Not run by us.
    """
    short = detr_resnet50_coco()
    return dataclasses.replace(
        short,
        recipe="detr_resnet50_coco_500",
        optim=dataclasses.replace(_OPTIM, drop_at=400 / 500),
        steps=500 * _EPOCH,
    )


def detr_finetune() -> Config:
    """A public DETR, fine-tuned on your own COCO json.

        python -m train.doctor detr_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train detr_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN

    CHECKPOINT is the authors' ``detr-r50-e632da11.pth`` or Hugging Face's
    ``hf://facebook/detr-resnet-50``. DIR has ``annotations/instances_train.json``,
    ``annotations/instances_val.json`` and the images in ``train/`` and ``val/``. Other paths are
    set by ``--data.train_annotations``, ``--data.train_images`` and the same fields for ``eval``.
    The head for the classes is initialised, all other parameters come from the checkpoint.
    """
    return Config(
        recipe="detr_finetune",
        model=ModelConfig("detr_resnet50"),
        data=_OWN,
        task=Detection(DetrLoss()),
        optim=dataclasses.replace(_OPTIM, drop_at=0.8),
        steps=5_000,
        batch_size=8,
        log_every=50,
        eval_every=500,
        checkpoint_every=500,
    )
