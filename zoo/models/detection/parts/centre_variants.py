"""The named models of CenterNet: what those for boxes, for people and for 3-D boxes share."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Variant
from zoo.models.backbones import backbone_layers
from zoo.models.detection.parts.hourglass_names import authors_preprocessing, hourglass_layers
from zoo.models.detection.parts.variants import scene_variant

HOURGLASS = {"trunk": "hourglass", "backbone": "", "head_dim": 256}
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
    return Variant(fields, authors_preprocessing((480, 640)))


def centre_nano(**fields: Any) -> Variant:
    """A model for images of 64 px."""
    return scene_variant(**{**_NANO, **fields})


def centre_layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then all that is between it and the heads; or the hourglasses'."""
    if model.trunk == "hourglass":
        return hourglass_layers(model.make_trunk(), "net")
    steps = [f"up_{i}{part}" for i in range(6) for part in ("", "_deconv", "_norm")]
    merges = [f"dla_up_{i}" for i in range(6)]
    return (*backbone_layers(model.make_body()), (*steps, *merges, "ida_up"))
