"""SPP-net (arXiv 1406.4729) on embedded scenes of digits."""

import dataclasses

from train.config import Config, ModelConfig
from train.recipes.rcnn import rcnn_digit_scenes
from zoo.registry import variant_named


def sppnet_digit_scenes() -> Config:
    """A small SPP-net on embedded scenes of one to six real digits.

        python -m train sppnet_digit_scenes --init_backbone=RCNN --workdir=DIR
        python -m train.svms --workdir=DIR
        python -m eval.detection --workdir=DIR/svms

    RCNN is the folder of a run of `rcnn_digit_scenes`, whose backbone stays as it is: as in the
    paper, only the dense layers are trained.
    """
    rcnn = rcnn_digit_scenes()
    backbone = variant_named("sppnet_nano").fields["backbone_fields"]
    return dataclasses.replace(
        rcnn,
        recipe="sppnet_digit_scenes",
        model=ModelConfig("sppnet_nano", {"backbone_fields": {**backbone, "norm": "frozen"}}),
        optim=dataclasses.replace(rcnn.optim, multipliers={"body": 0.0}),
        steps=300,
        eval_every=300,
        checkpoint_every=300,
    )
