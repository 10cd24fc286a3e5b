"""EfficientNet: see `model`."""

import dataclasses
import math
from typing import Any

from zoo.family import Family, Variant
from zoo.models.classification.efficientnet.model import EfficientNet
from zoo.models.classification.efficientnet.names import NAMES
from zoo.models.classification.parts.inverted_residual import round_dim
from zoo.models.inputs import images
from zoo.types import CropMode, Preprocessing

_NUM_BLOCKS, _STAGE_DIMS = EfficientNet.num_blocks, EfficientNet.stage_dims
_HALF = (0.5, 0.5, 0.5)
_NANO = {
    "stem_dim": 16,
    "num_blocks": (1, 2, 1),
    "stage_dims": (16, 24, 40),
    "kernel_sizes": (3, 3, 3),
    "strides": (1, 2, 2),
    "expansions": (1, 4, 4),
    "last_dim": 256,
}


def _variant(
    width: float,
    depth: float,
    size: int,
    crop: float = 0.875,
    *,
    crop_mode: CropMode = "center",
    parity: str | None = None,
) -> Variant:
    """A model whose features and blocks are multiples of B0's (arXiv 1905.11946, section 4)."""
    fields = {
        "stem_dim": round_dim(32 * width),
        "num_blocks": tuple(math.ceil(n * depth) for n in _NUM_BLOCKS),
        "stage_dims": tuple(round_dim(dim * width) for dim in _STAGE_DIMS),
        "last_dim": round_dim(1280 * width),
    }
    how = Preprocessing((size, size), crop_fraction=crop, crop_mode=crop_mode)
    return Variant(fields, how, parity=parity)


def _lite(
    width: float, depth: float, size: int, crop: float = 0.875, parity: str | None = None
) -> Variant:
    """Lite: first and last convolution, and the depth of first and last stage, are B0's."""
    first, *middle, last = _NUM_BLOCKS
    fields = {
        "num_blocks": (first, *(math.ceil(n * depth) for n in middle), last),
        "stage_dims": tuple(round_dim(dim * width) for dim in _STAGE_DIMS),
        "squeeze": False,
        "activation": "relu6",
    }
    return Variant(fields, Preprocessing((size, size), crop_fraction=crop), parity=parity)


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The stem, then each block, and the last convolution."""
    blocks = [f"stages_{i}_{j}" for i, depth in enumerate(model.num_blocks) for j in range(depth)]
    last = ("last_conv", "last_norm")
    return (("stem_conv", "stem_norm"), *((block,) for block in blocks), last)


FAMILY = Family(
    title="EfficientNet",
    summary="B0 to B7, Lite0 to Lite4",
    module=EfficientNet,
    task="classification",
    paper="1905.11946",
    reference="timm, torchvision",
    inputs=images,
    names=NAMES,
    layers=_layers,
    variants={
        # Not from the paper: for tests, demos and small images.
        "efficientnet_nano": Variant(_NANO, Preprocessing((64, 64))),
        "efficientnet_b0": _variant(1.0, 1.0, 224, parity="6e-7"),
        "efficientnet_b1": dataclasses.replace(
            _variant(1.0, 1.1, 240),
            preprocessing=Preprocessing((240, 240), _HALF, _HALF, "bicubic", 0.9),
        ),
        "efficientnet_b2": _variant(1.1, 1.2, 256),
        "efficientnet_b3": _variant(1.2, 1.4, 288),
        "efficientnet_b4": _variant(1.4, 1.8, 320),
        "efficientnet_b5": _variant(1.6, 2.2, 448, 1.0, crop_mode="squash"),
        "efficientnet_b6": _variant(1.8, 2.6, 528, 0.942),
        "efficientnet_b7": _variant(2.0, 3.1, 600, 0.949),
        "efficientnet_lite0": _lite(1.0, 1.0, 224, parity="3e-6"),
        "efficientnet_lite1": _lite(1.0, 1.1, 240, 0.882),
        "efficientnet_lite2": _lite(1.1, 1.2, 260, 0.890),
        "efficientnet_lite3": _lite(1.2, 1.4, 300, 0.904),
        "efficientnet_lite4": _lite(1.4, 1.8, 380, 0.922),
    },
)
