"""Faster R-CNN (arXiv 1506.01497) on embedded scenes of digits, COCO, and your own COCO json."""

import dataclasses

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.recipes.parts.coco import COCO_IMAGES, OWN_COCO, detectron2_recipe
from train.tasks.detection import Detection
from zoo.data import DetectionData
from zoo.data.chips import SNIPER_SCALES
from zoo.models.detection.parts.losses import DETECTRON2_LOSS, TwoStageLoss


def fasterrcnn_digit_scenes() -> Config:
    """A small Faster R-CNN on embedded scenes of one to six real digits, from scratch.

        python -m train fasterrcnn_digit_scenes --workdir=DIR

    AP 0.684, AP50 0.913 and AP75 0.823 of the last checkpoint on the 500 held-out scenes, half-way
    0.648 and 0.899, after 9 minutes 33 s on two CPU cores that also ran some other work, with
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1.
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


def fasterrcnn_resnet50_fpn_coco() -> Config:
    """Faster R-CNN with a pyramid on COCO: detectron2's ``faster_rcnn_R_50_FPN_1x``.

        python -m train fasterrcnn_resnet50_fpn_coco --data.source=coco:DIR --init_backbone=RESNET50

    DIR has COCO's ``annotations/``, ``train2017/`` and ``val2017/``; RESNET50 is torchvision's
    ``resnet50-0676ba61.pth``. Published: 37.9 AP, from the weights of the authors of ResNet. Not
    run by us. `train.recipes.parts.coco.detectron2_recipe` has the schedule and the deviations.
    """
    return detectron2_recipe(
        "fasterrcnn_resnet50_fpn_coco", "fasterrcnn_resnet50_fpn", DETECTRON2_LOSS
    )


def fasterrcnn_resnet50_fpn_coco_3x() -> Config:
    """As `fasterrcnn_resnet50_fpn_coco`, with three times the steps: published, 40.2 AP."""
    return detectron2_recipe(
        "fasterrcnn_resnet50_fpn_coco_3x", "fasterrcnn_resnet50_fpn", DETECTRON2_LOSS, rounds=3
    )


def fasterrcnn_resnet50_c4_coco() -> Config:
    """As `fasterrcnn_resnet50_fpn_coco`, on one map without a pyramid: published, 35.7 AP."""
    config = detectron2_recipe(
        "fasterrcnn_resnet50_c4_coco", "fasterrcnn_resnet50_c4", DETECTRON2_LOSS
    )
    # The variant's own fields are detectron2's.
    return dataclasses.replace(config, model=ModelConfig("fasterrcnn_resnet50_c4"))


def fasterrcnn_resnet50_c4_coco_sniper() -> Config:
    r"""Faster R-CNN on chips of COCO's images, as in SNIPER (arXiv 1805.09300).

        python -m train fasterrcnn_resnet50_c4_coco_sniper --data.source=coco:DIR \
            --init_backbone=RESNET50 --data.chip_proposals=FILE --workdir=RUN
        python -m eval.detection --workdir=RUN \
            --scales=1400x2000:0-90,800x1280:32-180,480x512:75-

    FILE is what a briefly trained run finds in the training images: ``python -m eval.detection
    --workdir=BRIEF --split=train2017 --results=FILE``. Without it there are no negative chips, and
    the detector sees little of the background. `fasterrcnn_resnet50_fpn_coco` has DIR and RESNET50.

    From SNIPER: scales, sizes and chips (`zoo.data.chips.SNIPER_SCALES`), 21 anchors, which are
    positive from an IoU of 0.5 and negative below 0.4, 300 proposals, the 256 hardest of which
    count, batches of 128 chips, learning rate, its warm-up and its drop, weight decay, and 7 epochs
    of about 5 chips an image. Published, with other heads on a ResNet-101: 46.5 AP.

    Deviations: stage 5 is the head for regions, with a box for each class; theirs is dilated, a
    part of the map that anchors and regions see, and deformable, with one box for all classes;
    proposals of other sizes than the chip's are regions, too, but those near ignored objects are
    not, and an anchor near one that is positive for another stays so; batch norm keeps ImageNet's
    statistics; evaluation in training is at the usual scale. Not run by us.
    """
    config = fasterrcnn_resnet50_c4_coco()
    chips, batch = 5 * COCO_IMAGES, 128
    steps = 7 * chips // batch
    fields = {
        "anchor_fields": {
            "sizes": ((32, 64, 112, 160, 208, 256, 384),),
            "strides": (16,),
            "order": "size",
        },
        "anchor_sampling": {"high": 0.5, "low": 0.4},
        "proposal_fields": {
            **{"train_candidates": 6000, "candidates": 6000},
            **{"train_kept": 300, "kept": 300, "min_size": 0.0},
        },
        # All of the proposals and of the true boxes: the loss chooses.
        "roi_sampling": {"num": 400, "positive_fraction": 1.0},
    }
    return dataclasses.replace(
        config,
        recipe="fasterrcnn_resnet50_c4_coco_sniper",
        model=ModelConfig(config.model.name, fields),
        data=dataclasses.replace(config.data, chips=SNIPER_SCALES),
        task=Detection(TwoStageLoss(rpn_beta=1.0, box_beta=1.0, hardest=256)),
        optim=dataclasses.replace(config.optim, learning_rate=0.015, drop_at=5.33 / 7),
        steps=steps,
        batch_size=batch,
        eval_every=5_000,
    )


def fasterrcnn_resnet50_fpn_coco_megdet() -> Config:
    """Faster R-CNN with large batches, as in MegDet (arXiv 1711.07240).

        python -m train fasterrcnn_resnet50_fpn_coco_megdet --init_backbone=RESNET50

    16 times the images in a step, a sixteenth of the steps, and 16 times the learning rate, which
    rises over the first epoch. Batch norm is trained, in the backbone, the pyramid and the heads,
    and nothing is frozen: its statistics are those of the whole batch of 256 images, over all
    devices, with every ``--parallel``. The paper computes them over groups of devices, and reaches
    the accuracy of a batch of 16 in a ninth of the time. Not run by us.
    """
    config = fasterrcnn_resnet50_fpn_coco()
    batch = 256
    norms = {"backbone_fields": {"norm": "batch"}, "pyramid_norm": "batch"}
    heads = {"box_conv_dims": (256,) * 4, "box_dims": (1024,), "box_norm": "batch"}
    return dataclasses.replace(
        config,
        recipe="fasterrcnn_resnet50_fpn_coco_megdet",
        model=ModelConfig(config.model.name, {**config.model.fields, **norms, **heads}),
        optim=dataclasses.replace(
            config.optim,
            learning_rate=config.optim.learning_rate * batch / config.batch_size,
            warmup_steps=round(COCO_IMAGES / batch),
            multipliers={},
        ),
        steps=config.steps * config.batch_size // batch,
        batch_size=batch,
        eval_every=1_000,
        checkpoint_every=500,
    )


def fasterrcnn_finetune() -> Config:
    """A public Faster R-CNN, fine-tuned on your own COCO json.

        python -m train.doctor fasterrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT
        python -m train fasterrcnn_finetune --data.source=coco:DIR --init=CHECKPOINT --workdir=RUN
        python -m eval.detection --workdir=RUN

    CHECKPOINT is torchvision's ``fasterrcnn_resnet50_fpn_coco-258fb6c6.pth``. With its version 2,
    ``fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth``, give
    ``--model.name=fasterrcnn_resnet50_fpn_v2``. DIR has ``annotations/instances_train.json``,
    ``annotations/instances_val.json`` and the images in ``train/`` and ``val/``; the fields of
    ``data`` set other paths. The last layers of the heads are initialised, all other parameters
    come from the checkpoint; the backbone's stem and first stage stay as they are. Not run by us on
    public weights.
    """
    return Config(
        recipe="fasterrcnn_finetune",
        model=ModelConfig("fasterrcnn_resnet50_fpn"),
        data=OWN_COCO,
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
