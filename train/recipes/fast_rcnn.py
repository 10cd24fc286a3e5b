"""Fast R-CNN (arXiv 1504.08083) on embedded scenes of digits."""

import dataclasses

from train.config import Config, ModelConfig
from train.recipes.rcnn import rcnn_digit_scenes


def fastrcnn_digit_scenes() -> Config:
    """A small Fast R-CNN on embedded scenes of one to six real digits, from scratch.

    python -m train fastrcnn_digit_scenes --workdir=DIR
    python -m eval.detection --workdir=DIR
    """
    return dataclasses.replace(
        rcnn_digit_scenes(),
        recipe="fastrcnn_digit_scenes",
        model=ModelConfig("fastrcnn_nano"),
        steps=600,
        batch_size=32,
        eval_every=600,
        checkpoint_every=300,
    )
