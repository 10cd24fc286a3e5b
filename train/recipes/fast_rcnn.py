"""Fast R-CNN (arXiv 1504.08083) on embedded scenes of digits."""

import dataclasses

from train.config import Config, ModelConfig
from train.recipes.rcnn import rcnn_digit_scenes


def fastrcnn_digit_scenes() -> Config:
    """A small Fast R-CNN on embedded scenes of one to six real digits, from scratch.

        python -m train fastrcnn_digit_scenes --workdir=DIR
        python -m eval.detection --workdir=DIR

    AP 0.512, AP50 0.828 and AP75 0.604 on the 500 held-out scenes. RoIPool rounds the regions to
    cells of 4 px, while digits are 12 to 28 px high. The run takes 4.3 minutes of CPU time; see
    `rcnn_digit_scenes` for the proposals and the machine.
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
