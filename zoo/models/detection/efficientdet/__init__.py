"""EfficientDet: see `model`."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Family, Variant
from zoo.models.backbones import backbone_layers
from zoo.models.detection.efficientdet.loss import EfficientDetLoss
from zoo.models.detection.efficientdet.model import EfficientDet
from zoo.models.detection.efficientdet.names import NAMES
from zoo.models.detection.parts.dense import dense_detections
from zoo.models.inputs import padded_images
from zoo.types import Preprocessing

_HALF = (0.5, 0.5, 0.5)
# arXiv 1911.09070, table 1: side of the images, features and cells of the pyramid, convolutions of
# a tower. The paper's D7 is D6 with larger images and anchors; both sum without weights.
_SIZES = (
    (512, 64, 3, 3),
    (640, 88, 4, 3),
    (768, 112, 5, 3),
    (896, 160, 6, 4),
    (1024, 224, 7, 4),
    (1280, 288, 7, 4),
    (1280, 384, 8, 5),
    (1536, 384, 8, 5),
)
# Maps of stride 4 and 8, for objects of 8 to 28 px that are taller than wide.
_NANO = {
    "backbone": "efficientnet_nano",
    "finest_stride": 4,
    "num_cells": 1,
    "num_extra": 0,
    "num_convs": 1,
    "anchor_fields": FrozenDict(
        {
            "sizes": ((8.0, 10.0, 12.5), (15.0, 20.0, 26.0)),
            "shapes": ((1.0, 1.0), (0.82, 1.22), (0.67, 1.48)),
        }
    ),
    "decoding_fields": FrozenDict({"candidates": 400}),
}


def _variant(number: int, *, tensorflow: bool = False, parity: str | None = None) -> Variant:
    """D0 to D7; with `tensorflow` as the weights that TensorFlow trained need it."""
    side, dim, cells, convs = _SIZES[number]
    fields: dict[str, Any] = {
        "backbone": f"efficientnet_b{min(number, 6)}",
        "pyramid_dim": dim,
        "num_cells": cells,
        "num_convs": convs,
    }
    if number >= 6:
        fields["weighted"] = False
    if number == 7:
        fields["anchor_size"] = 5.0
    if tensorflow:
        body = FrozenDict({"padding": "same", "norm_epsilon": 1e-3})
        fields |= {"padding": "same", "bias": True, "backbone_fields": body}
    return Variant(fields, Preprocessing((side, side), interpolation="bilinear"), parity=parity)


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers without its last convolution, then the pyramid."""
    unused = ("body/last_conv", "body/last_norm")
    body = [names for names in backbone_layers(model.make_body()) if names != unused]
    return (*body, ("pyramid",))


FAMILY = Family(
    title="EfficientDet",
    summary="D0 to D7; TensorFlow's as well",
    module=EfficientDet,
    task="detection",
    paper="1911.09070",
    reference="effdet",
    inputs=padded_images,
    names=NAMES,
    loss=EfficientDetLoss,
    decode=dense_detections,
    layers=_layers,
    head=("params/head/logits/pointwise/",),
    constant=("anchors",),
    variants={
        # Not from the paper: for tests, demos and small images.
        "efficientdet_nano": Variant(
            _NANO, Preprocessing((64, 64), _HALF, _HALF, interpolation="bilinear")
        ),
        "efficientdet_d0": _variant(0, parity="3e-6"),
        **{f"efficientdet_d{i}": _variant(i) for i in range(1, 8)},
        "tf_efficientdet_d0": _variant(0, tensorflow=True, parity="3e-6"),
        **{f"tf_efficientdet_d{i}": _variant(i, tensorflow=True) for i in range(1, 8)},
    },
)
