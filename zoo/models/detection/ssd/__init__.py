"""SSD and SSDLite: see `model`."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Family, Variant
from zoo.models.backbones import backbone_layers
from zoo.models.detection.parts.dense import dense_detections
from zoo.models.detection.parts.variants import PIXELS
from zoo.models.detection.ssd.loss import SSDLoss
from zoo.models.detection.ssd.model import SSD
from zoo.models.detection.ssd.names import NAMES
from zoo.models.inputs import padded_images
from zoo.types import Preprocessing

_HALF = (0.5, 0.5, 0.5)
_VGG_MEAN = (0.48235, 0.45882, 0.40784)  # of pixels of 0..255: 123, 117, 104
_PAIR, _FOUR = (2,), (2, 3)

# The authors', of their branch ``ssd`` of Caffe, for COCO.
_512 = {
    "image_size": 512,
    "extra_dims": (512, 256, 256, 256, 256),
    "extra_kernels": (3, 3, 3, 3, 4),
    "extra_strides": (2, 2, 2, 2, 1),
    "extra_paddings": (1, 1, 1, 1, 1),
    "prior_fields": FrozenDict(
        {
            "scales": (0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06),
            "ratios": (_PAIR, _FOUR, _FOUR, _FOUR, _FOUR, _PAIR, _PAIR),
            "steps": (8, 16, 32, 64, 128, 256, 512),
        }
    ),
}
# torchvision's; the last blocks have half as many features: arXiv 1905.02244, table 6.
_LITE = {
    "image_size": 320,
    "backbone": "mobilenetv3_large_100",
    "backbone_fields": FrozenDict(
        {
            "expanded_dims": (
                *(16, 64, 72, 72, 120, 120, 240, 200, 184, 184),
                *(480, 672, 672, 480, 480),
            ),
            "block_dims": (16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 80, 80, 80),
            "last_dim": 480,
        }
    ),
    "lite": True,
    "extra_dims": (512, 256, 256, 128),
    "prior_fields": FrozenDict(
        {"scales": (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0), "ratios": (_FOUR,) * 6}
    ),
    "decoding_fields": FrozenDict(
        {"score_threshold": 0.001, "iou_threshold": 0.55, "candidates": 300, "most": 300}
    ),
}
# Maps of stride 4, 8 and 16, for objects of 8 to 28 px that are taller than wide.
_NANO = {
    "image_size": 64,
    "backbone": "vgg_nano",
    "backbone_fields": FrozenDict(
        {"num_convs": (1, 2, 2, 2), "stage_dims": (24, 48, 64, 96), "norm": "batch"}
    ),
    "dense_dim": 96,
    "dense_dilation": 2,
    "extra_dims": (96,),
    "prior_fields": FrozenDict(
        {
            "scales": (0.15, 0.26, 0.4, 0.6),
            "ratios": ((1.5, 2.2), (1.5, 2.2), (1.5,)),
            "steps": (4, 8, 16),
        }
    ),
    "decoding_fields": FrozenDict({"candidates": 60, "most": 100}),
}


def _variant(
    side: int,
    mean: tuple[float, float, float],
    std: Any,
    fields: Any,
    parity: str | None = None,
) -> Variant:
    how = Preprocessing((side, side), mean, std, "bilinear", crop_mode="squash")
    return Variant(fields, how, parity=parity)


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then all that is between it and the head."""
    unused = {("body/hidden_0",), ("body/hidden_1",)}  # a VGG's dense layers
    body = [names for names in backbone_layers(model.make_body()) if names not in unused]
    kinds = [f"{kind}_{j}" for kind in ("conv", "norm") for j in range(3)]
    extra = [f"extra_{i}_{kind}" for i in range(len(model.extra_dims)) for kind in kinds]
    return (*body, ("scale", "dense_conv_0", "dense_conv_1", *extra))


FAMILY = Family(
    title="SSD",
    summary="VGG16 at 300 and 512 px; SSDLite with MobileNetV3",
    module=SSD,
    task="detection",
    paper="1512.02325",
    reference="torchvision",
    inputs=padded_images,
    names=NAMES,
    loss=SSDLoss,
    decode=dense_detections,
    layers=_layers,
    head=tuple(f"params/head/logits_{i}/" for i in range(7)),
    constant=("anchors",),
    variants={
        # Not from a paper: for tests, demos and small images.
        "ssd_nano": _variant(64, _HALF, _HALF, _NANO),
        "ssd300_vgg16": _variant(300, _VGG_MEAN, PIXELS, {}, "2e-6"),
        "ssd512_vgg16": _variant(512, _VGG_MEAN, PIXELS, _512),
        "ssdlite320_mobilenet_v3_large": _variant(320, _HALF, _HALF, _LITE, "6e-7"),
    },
)
