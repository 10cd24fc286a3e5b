"""PANet (arXiv 1803.01534) on embedded scenes of digits."""

import dataclasses

from train.config import Config, ModelConfig
from train.recipes.mask_rcnn import maskrcnn_digit_scenes


def panet_digit_scenes() -> Config:
    """A small PANet on embedded scenes of one to six real digits, from scratch.

        python -m train panet_digit_scenes --workdir=DIR

    The settings are those of `maskrcnn_digit_scenes`. Not run as a whole.
    """
    return dataclasses.replace(
        maskrcnn_digit_scenes(), recipe="panet_digit_scenes", model=ModelConfig("panet_nano")
    )
