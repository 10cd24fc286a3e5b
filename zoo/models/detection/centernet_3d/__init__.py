"""CenterNet for boxes in space: see `model`."""

import dataclasses

from zoo.family import Family
from zoo.models.detection.centernet_3d.loss import CenterNet3DLoss
from zoo.models.detection.centernet_3d.model import CenterNet3D
from zoo.models.detection.parts.centre_decode import decode
from zoo.models.detection.parts.centre_names import AUTHORS
from zoo.models.detection.parts.centre_variants import (
    DLA,
    centre_layers,
    centre_nano,
    centre_variant,
)
from zoo.models.inputs import padded_images
from zoo.types import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

# ImageNet's mean and deviation of red were used for blue, and those of blue for red.
_MEAN, _STD = ((blue, green, red) for red, green, blue in (IMAGENET_MEAN, IMAGENET_STD))
_HOW = Preprocessing((384, 1280), _MEAN, _STD, "bilinear")

FAMILY = Family(
    title="CenterNet for boxes in space",
    summary="DLA-34",
    module=CenterNet3D,
    task="detection",
    paper="1904.07850",
    reference="the authors' code",
    inputs=padded_images,
    names=(AUTHORS,),
    loss=CenterNet3DLoss,
    decode=decode,
    layers=centre_layers,
    head=("params/head_0/heat_logits/out/",),
    variants={
        # Not from the paper: for tests, demos and small images.
        "centernet_3d_nano": centre_nano(),
        "centernet_3d_dla34": dataclasses.replace(centre_variant(**DLA), preprocessing=_HOW),
    },
)
