"""COCO and data in its form, as detectors are trained on them."""

import dataclasses
from typing import Any

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.tasks.detection import Detection
from zoo.data import DetectionData
from zoo.types import IMAGENET_MEAN, IMAGENET_STD

COCO_IMAGES = 118_287  # of train2017

# Six short sides and mirroring, as in detectron2; a batch is padded to one of these four shapes.
COCO = DetectionData(
    source="coco:coco",
    train_split="train2017",
    eval_split="val2017",
    buckets=((800, 1088), (1088, 800), (800, 1344), (1344, 800)),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    max_objects=100,
    short_sides=tuple(range(640, 801, 32)),
    long_side=1333,
    flip=True,
)

# Your own COCO json; the checkpoint that training starts from decides mean and std.
OWN_COCO = dataclasses.replace(
    COCO, source="coco:data", train_split="train", eval_split="val", mean=None, std=None
)


def square_parts(data: DetectionData) -> DetectionData:
    """COCO, or data in its form, of which training takes squares, as CenterNet's authors do.

    Evaluation keeps the images' size. An image that is larger than the buckets is shrunk.
    """
    return dataclasses.replace(
        data,
        buckets=((480, 640), (640, 480), (640, 640)),
        mean=None,
        std=None,
        max_objects=128,
        too_many="drop_smallest",
        short_sides=(),
        zoom=(0.6, 1.3),
    )


# detectron2's conventions, with the backbone of torchvision's ImageNet weights.
_FIELDS = {
    "norm_epsilon": 1e-5,
    "proposal_fields": {"train_kept": 1000, "min_size": 0.0},
    "pooling_fields": {"aligned": True},
}


def detectron2_recipe(recipe: str, model: str, loss: Any, rounds: int = 1) -> Config:
    """A two-stage detector on COCO with detectron2's schedule "1x", 12 epochs, or a multiple of it.

    As there, stem and first stage are frozen and batch norm uses the statistics of the ImageNet
    weights. The learning rate is for 16 images: scale both together.

    Deviations: biases do not decay; the warm-up begins at 0, not at a thousandth; RoIAlign has two
    samples in a row of a cell, not a number that depends on the region's size; a batch is padded to
    one of four shapes.

    Args:
        recipe: Name of the recipe.
        model: Name of the model.
        loss: The settings of its loss.
        rounds: 1 for the schedule "1x"; 3 for "3x", which drops later: 60,000 and 20,000 steps
            before the end.
    """
    steps = 90_000 * rounds
    drops = (60_000, 80_000) if rounds == 1 else (steps - 60_000, steps - 20_000)
    return Config(
        recipe=recipe,
        model=ModelConfig(model, _FIELDS),
        data=COCO,
        task=Detection(loss),
        optim=OptimConfig(
            name="sgd",
            learning_rate=0.02,
            nesterov=False,
            schedule="step",
            drop_at=tuple(drop / steps for drop in drops),
            warmup_steps=1000,
            weight_decay=1e-4,
            multipliers={"body/stem_*": 0.0, "body/stages_0_*": 0.0},
        ),
        steps=steps,
        batch_size=16,
        log_every=100,
        eval_every=10_000,
        checkpoint_every=5_000,
    )


def torchvision_recipe(recipe: str, model: str, loss: Any) -> Config:
    """A dense detector on COCO with torchvision's schedule of 26 epochs for RetinaNet and FCOS.

    As there, stem and first stage are frozen, batch norm uses the statistics of the ImageNet
    weights, and the shorter side of images is 800 px. The learning rate is for 16 images.

    Deviations: biases do not decay; the warm-up begins at 0, not at a thousandth; a batch is padded
    to one of four shapes.
    """
    batch, epochs = 16, 26
    return Config(
        recipe=recipe,
        model=ModelConfig(model),
        data=dataclasses.replace(COCO, short_sides=(800,)),
        task=Detection(loss),
        optim=OptimConfig(
            name="sgd",
            learning_rate=0.01,
            nesterov=False,
            schedule="step",
            drop_at=(16 / epochs, 22 / epochs),
            warmup_steps=1000,
            weight_decay=1e-4,
            multipliers={"body/stem_*": 0.0, "body/stages_0_*": 0.0},
        ),
        steps=epochs * COCO_IMAGES // batch,
        batch_size=batch,
        log_every=100,
        eval_every=10_000,
        checkpoint_every=5_000,
    )
