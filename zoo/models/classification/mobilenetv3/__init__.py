"""MobileNetV3: see `model`."""

from typing import Any

from zoo.family import Family, Variant
from zoo.models.classification.mobilenetv3.model import MobileNetV3
from zoo.models.classification.mobilenetv3.names import NAMES
from zoo.models.inputs import images
from zoo.types import Preprocessing

# arXiv 1905.02244, table 2; the large one, table 1, is the module's default.
_SMALL = {
    "kernel_sizes": (3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5),
    "expanded_dims": (16, 72, 88, 96, 240, 240, 120, 144, 288, 576, 576),
    "block_dims": (16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96),
    "strides": (2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1),
    "squeeze_blocks": (0, 3, 4, 5, 6, 7, 8, 9, 10),
    "num_relu_blocks": 3,
    "last_dim": 576,
    "hidden_dim": 1024,
}
_NANO = {
    "kernel_sizes": (3, 3, 5, 3, 5, 5),
    "expanded_dims": (16, 48, 72, 120, 160, 256),
    "block_dims": (16, 24, 40, 40, 64, 64),
    "strides": (1, 2, 2, 1, 2, 1),
    "squeeze_blocks": (2, 4, 5),
    "num_relu_blocks": 3,
    "last_dim": 384,
    "hidden_dim": 256,
}


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The stem, each block, and the last convolution; then the layer after the pooling."""
    blocks = ((f"blocks_{i}",) for i in range(len(model.strides)))
    return (("stem_conv", "stem_norm"), *blocks, ("last_conv", "last_norm"), ("hidden",))


FAMILY = Family(
    title="MobileNetV3",
    summary="large, small",
    module=MobileNetV3,
    task="classification",
    paper="1905.02244",
    reference="timm, torchvision",
    inputs=images,
    names=NAMES,
    layers=_layers,
    variants={
        # Not from the paper: for tests, demos and small images.
        "mobilenetv3_nano": Variant(_NANO, Preprocessing((64, 64))),
        "mobilenetv3_small_100": Variant(_SMALL, Preprocessing((224, 224)), parity="5e-7"),
        "mobilenetv3_large_100": Variant(
            {}, Preprocessing((224, 224)), parity="2e-6, timm and torchvision"
        ),
    },
)
