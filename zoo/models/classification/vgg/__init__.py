"""VGG: see `model`."""

from typing import Any

from zoo.family import Family, Variant
from zoo.models.classification.vgg.model import VGG
from zoo.models.classification.vgg.names import NAMES
from zoo.models.inputs import images
from zoo.types import Preprocessing

_HOW = Preprocessing((224, 224), interpolation="bilinear")
# Convolutions of each stage: arXiv 1409.1556, table 1, columns A, B, D and E.
_DEPTHS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
_NANO = {
    "num_convs": (1, 1, 2, 2, 2),
    "stage_dims": (16, 32, 64, 96, 96),
    "hidden_dim": 128,
    "map_size": 2,
    "norm": "batch",
}


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """Each convolution with its norm, then the layers before the head."""
    convs = [(i, j) for i, depth in enumerate(model.num_convs) for j in range(depth)]
    stages = ((f"stages_{i}_conv_{j}", f"stages_{i}_norm_{j}") for i, j in convs)
    return (*stages, ("hidden_0",), ("hidden_1",))


FAMILY = Family(
    title="VGG",
    summary="11, 13, 16, 19, with and without batch norm",
    module=VGG,
    task="classification",
    paper="1409.1556",
    reference="timm, torchvision",
    inputs=images,
    names=NAMES,
    layers=_layers,
    variants={
        # Not from the paper: for tests, demos and small images.
        "vgg_nano": Variant(_NANO, Preprocessing((64, 64))),
        **{name: Variant({"num_convs": depths}, _HOW) for name, depths in _DEPTHS.items()},
        **{
            f"{name}_bn": Variant({"num_convs": depths, "norm": "batch"}, _HOW)
            for name, depths in _DEPTHS.items()
        },
    },
)
