"""CenterNet: see `model`."""

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.detection.centernet.model import CenterNet
from zoo.models.detection.centernet.names import NAMES
from zoo.models.detection.parts.centre_decode import decode
from zoo.models.detection.parts.centre_loss import CenterNetLoss
from zoo.models.detection.parts.centre_variants import (
    DLA,
    HOURGLASS,
    centre_layers,
    centre_nano,
    centre_variant,
)
from zoo.models.inputs import padded_images

_PLAIN = FrozenDict({"deformable": False, "bias": False})

FAMILY = Family(
    title="CenterNet",
    summary="ResNet-18 to 101 with deconvolutions, DLA-34, Hourglass-104",
    module=CenterNet,
    task="detection",
    paper="1904.07850",
    reference="the authors' code, mmdet",
    inputs=padded_images,
    names=NAMES,
    loss=CenterNetLoss,
    decode=decode,
    layers=centre_layers,
    head=tuple(f"params/head_{i}/heat_logits/out/" for i in range(2)),
    variants={
        # Not from the paper: for tests, demos and small images.
        "centernet_nano": centre_nano(),
        # mmdet's; the authors' have deformable convolutions.
        "centernet_resnet18": centre_variant(trunk_fields=_PLAIN),
        "centernet_resnet18_dcn": centre_variant(),
        "centernet_resnet101_dcn": centre_variant(backbone="resnet101"),
        "centernet_dla34": centre_variant(**DLA),
        "centernet_hourglass104": centre_variant(**HOURGLASS),
    },
)
