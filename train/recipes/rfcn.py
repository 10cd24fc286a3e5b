"""R-FCN (arXiv 1605.06409) on embedded scenes of digits."""

import dataclasses

from train.config import Config, ModelConfig
from train.recipes.faster_rcnn import fasterrcnn_digit_scenes
from train.tasks.detection import Detection
from zoo.models.detection.rfcn.loss import RFCNLoss


def rfcn_digit_scenes() -> Config:
    """A small R-FCN on embedded scenes of one to six real digits, from scratch.

        python -m train rfcn_digit_scenes --workdir=DIR

    All proposals of an image are scored, and the 32 with the largest losses count. Not run as a
    whole.
    """
    return dataclasses.replace(
        fasterrcnn_digit_scenes(),
        recipe="rfcn_digit_scenes",
        model=ModelConfig("rfcn_nano"),
        task=Detection(RFCNLoss(hardest=32)),
    )
