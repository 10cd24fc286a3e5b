"""DLA: see `model`."""

from typing import Any

from zoo.family import Family, Variant
from zoo.models.classification.dla.model import DLA
from zoo.models.classification.dla.names import NAMES
from zoo.models.inputs import images
from zoo.types import Preprocessing


def _variant(side: int, **fields: Any) -> Variant:
    return Variant(fields, Preprocessing((side, side), interpolation="bilinear"))


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The stem, then each level."""
    levels = [
        tuple(f"levels_{i}_{kind}_{j}" for kind in ("conv", "norm") for j in range(depth))
        if i < 2
        else (f"levels_{i}",)
        for i, depth in enumerate(model.depths)
    ]
    return (("stem_conv", "stem_norm"), *levels)


FAMILY = Family(
    title="DLA",
    summary="34",
    module=DLA,
    task="classification",
    paper="1707.06484",
    reference="timm",
    inputs=images,
    names=NAMES,
    layers=_layers,
    variants={
        # Not from the paper: for tests, demos and small images.
        "dla_nano": _variant(64, depths=(1, 1, 1, 2), level_dims=(16, 32, 64, 96)),
        "dla34": _variant(224),
    },
)
