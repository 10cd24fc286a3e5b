"""The named models of the YOLO detectors: what several families have in common."""

from typing import Any

from zoo.family import Variant
from zoo.models.backbones import backbone_layers
from zoo.types import Preprocessing

_PIXELS = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean and std of darknet's images


def yolo_variant(side: int, **fields: Any) -> Variant:
    """A model for letterboxed images of `side` x `side` pixels of 0..1, as darknet has them."""
    how = Preprocessing((side, side), *_PIXELS, "bilinear", crop_mode="letterbox")
    return Variant(fields, how)


def yolo_nano(**fields: Any) -> Variant:
    """A model for images of 64 px; statistics of norms change faster than in darknet."""
    half = (0.5, 0.5, 0.5)
    how = Preprocessing((64, 64), half, half, "bilinear", crop_mode="letterbox")
    return Variant({"norm_momentum": 0.9, **fields}, how)


def yolo_layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then the others but the last: see `zoo.family.Family.layers`."""
    names = ("neck", "bridges_0", "bridges_1", "bridges_2", "passthrough", "merged")
    numbered = tuple(f"{name}_{i}" for name in ("neck", "extra", "hidden") for i in range(4))
    return (*backbone_layers(model.make_body()), (*names, *numbered, "local"))
