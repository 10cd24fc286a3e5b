"""The named models of CenterNet: what those for boxes, for people and for 3-D boxes share."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Variant
from zoo.models.backbones import backbone_layers
from zoo.types import Preprocessing

# The authors', of red, green and blue.
MEAN = (0.47026115, 0.44719302, 0.40789654)
STD = (0.27809835, 0.27408164, 0.28863828)
_HALF = (0.5, 0.5, 0.5)
DLA = {"trunk": "dla", "backbone": "dla34", "head_dim": 256}
# Objects in scenes of digits are near each other: cells of 2 px. Deformable convolutions take long
# on a CPU.
_NANO = {
    "trunk": "dla",
    "backbone": "dla_nano",
    "backbone_fields": FrozenDict({"depths": (1, 1, 1, 1)}),
    "trunk_fields": FrozenDict({"first": 1, "deformable": False}),
    "head_dim": 48,
}


def centre_variant(**fields: Any) -> Variant:
    """A model for images of COCO's size."""
    return Variant(fields, Preprocessing((480, 640), MEAN, STD, "bilinear"))


def centre_nano(**fields: Any) -> Variant:
    """A model for images of 64 px."""
    return Variant({**_NANO, **fields}, Preprocessing((64, 64), _HALF, _HALF, "bilinear"))


def centre_layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then all that is between it and the heads."""
    steps = [f"up_{i}{part}" for i in range(6) for part in ("", "_deconv", "_norm")]
    merges = [f"dla_up_{i}" for i in range(6)]
    return (*backbone_layers(model.make_body()), (*steps, *merges, "ida_up"))
