"""TridentNet (arXiv 1901.01892) on embedded scenes of digits, and on COCO."""

import dataclasses

from train.config import Config, ModelConfig
from train.recipes.faster_rcnn import fasterrcnn_digit_scenes
from train.recipes.parts.coco import detectron2_recipe
from zoo.models.detection.parts.losses import DETECTRON2_LOSS


def tridentnet_digit_scenes() -> Config:
    """A small TridentNet on embedded scenes of one to six real digits, from scratch.

        python -m train tridentnet_digit_scenes --workdir=DIR

    Its three branches learn and find objects of different sizes. Not run as a whole.
    """
    ranges = ((0, 14), (10, 22), (17, 64))
    return dataclasses.replace(
        fasterrcnn_digit_scenes(),
        recipe="tridentnet_digit_scenes",
        model=ModelConfig("tridentnet_nano", {"valid_ranges": ranges}),
    )


def tridentnet_resnet50_c4_coco() -> Config:
    """TridentNet on COCO, in detectron2's fast form: one branch after training.

        python -m train tridentnet_resnet50_c4_coco --init_backbone=RESNET50

    Published: 38.0 AP. Not run by us. The data and RESNET50: see `fasterrcnn_resnet50_fpn_coco`.
    """
    name = "tridentnet_resnet50_c4"
    config = detectron2_recipe(f"{name}_coco", name, DETECTRON2_LOSS)
    return dataclasses.replace(config, model=ModelConfig(name))  # its own fields are detectron2's
