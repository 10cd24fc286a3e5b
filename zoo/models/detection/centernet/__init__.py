"""CenterNet: see `model`."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Family, Variant
from zoo.models.backbones import backbone_layers
from zoo.models.detection.centernet.decode import decode
from zoo.models.detection.centernet.loss import CenterNetLoss
from zoo.models.detection.centernet.model import CenterNet
from zoo.models.detection.centernet.names import NAMES
from zoo.models.inputs import padded_images
from zoo.types import Preprocessing

# The authors', of red, green and blue.
MEAN = (0.47026115, 0.44719302, 0.40789654)
STD = (0.27809835, 0.27408164, 0.28863828)
_HALF = (0.5, 0.5, 0.5)
_PLAIN = FrozenDict({"deformable": False, "bias": False})
_DLA = {"trunk": "dla", "backbone": "dla34", "head_dim": 256}
# Digits are near each other: cells of 2 px. Deformable convolutions take long on a CPU.
_NANO = {
    "trunk": "dla",
    "backbone": "dla_nano",
    "backbone_fields": FrozenDict({"depths": (1, 1, 1, 1)}),
    "trunk_fields": FrozenDict({"first": 1, "deformable": False}),
    "head_dim": 48,
}


def _variant(**fields: Any) -> Variant:
    return Variant(fields, Preprocessing((480, 640), MEAN, STD, "bilinear"))


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then all that is between it and the heads."""
    steps = [f"up_{i}{part}" for i in range(6) for part in ("", "_deconv", "_norm")]
    merges = [f"dla_up_{i}" for i in range(6)]
    return (*backbone_layers(model.make_body()), (*steps, *merges, "ida_up"))


FAMILY = Family(
    title="CenterNet",
    summary="ResNet-18 to 101 with deconvolutions, DLA-34",
    module=CenterNet,
    task="detection",
    paper="1904.07850",
    reference="the authors' code, mmdet",
    inputs=padded_images,
    names=NAMES,
    loss=CenterNetLoss,
    decode=decode,
    layers=_layers,
    head=("params/head_0/heat_logits_output/",),
    variants={
        # Not from the paper: for tests, demos and small images.
        "centernet_nano": Variant(_NANO, Preprocessing((64, 64), _HALF, _HALF, "bilinear")),
        # mmdet's; the authors' have deformable convolutions.
        "centernet_resnet18": _variant(trunk_fields=_PLAIN),
        "centernet_resnet18_dcn": _variant(),
        "centernet_resnet101_dcn": _variant(backbone="resnet101"),
        "centernet_dla34": _variant(**_DLA),
    },
)
