"""Faster R-CNN (arXiv 1506.01497) on embedded scenes of digits, and on your own COCO json."""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.recipes.parts.coco import OWN_REGIONS
from train.tasks.detection import Detection
from zoo.data import DetectionData
from zoo.models.detection.parts.losses import TwoStageLoss


def fasterrcnn_digit_scenes() -> Config:
    """A small Faster R-CNN on embedded scenes of one to six real digits, from scratch.

        python -m train fasterrcnn_digit_scenes --workdir=DIR

    AP 0.684 and AP50 0.913 of the last checkpoint on the 500 held-out scenes; half-way, 0.648 and
    0.899. About 12 minutes on two CPU cores: a step takes 0.29 s, measured over a run of 300 steps
    (AP 0.49); the whole run shared the cores with much other work, and took 55 minutes. Both with
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 in the environment.
    """
    return Config(
        recipe="fasterrcnn_digit_scenes",
        model=ModelConfig("fasterrcnn_nano"),
        data=DetectionData(train_split="train[:500000]", threads=2),
        task=Detection(TwoStageLoss()),
        optim=OptimConfig(
            name="muon",
            learning_rate=5e-3,
            warmup_steps=100,
            weight_decay=0.02,
            b2=0.99,
            clip_norm=10.0,
        ),
        steps=2_500,
        batch_size=32,
        log_every=50,
        eval_every=1_250,
        checkpoint_every=1_000,
        ema=0.999,
    )


def fasterrcnn_finetune() -> Config:
    """A public Faster R-CNN, fine-tuned on your own COCO json.

        python -m train.doctor fasterrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train fasterrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN

    CHECKPOINT is torchvision's ``fasterrcnn_resnet50_fpn_coco-258fb6c6.pth``, whose frozen norms
    have no epsilon. With its version 2, ``fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth``, give
    ``--model.name=fasterrcnn_resnet50_fpn_v2 --model.norm_epsilon=1e-5``. DIR has
    ``annotations/instances_train.json``, ``annotations/instances_val.json`` and the images in
    ``train/`` and ``val/``; the fields of ``data`` set other paths. The last layers of the heads
    are initialised, all other parameters come from the checkpoint; the backbone's stem and first
    stage stay as they are. Not run by us on public weights.
    """
    return Config(
        recipe="fasterrcnn_finetune",
        model=ModelConfig("fasterrcnn_resnet50_fpn", {"norm_epsilon": 0.0}),
        data=OWN_REGIONS,
        task=Detection(TwoStageLoss()),
        optim=OptimConfig(
            name="sgd",
            learning_rate=0.005,
            schedule="step",
            drop_at=0.8,
            warmup_steps=500,
            weight_decay=1e-4,
            clip_norm=35.0,
            multipliers={"body/stem_*": 0.0, "body/stages_0_*": 0.0},
        ),
        steps=5_000,
        batch_size=8,
        log_every=50,
        eval_every=500,
        checkpoint_every=500,
    )
