"""Faster R-CNN: see `model`."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Family, Variant
from zoo.models.backbones import backbone_layers
from zoo.models.detection.faster_rcnn.model import FasterRCNN
from zoo.models.detection.faster_rcnn.names import NAMES
from zoo.models.detection.parts.decode import softmax_rois
from zoo.models.detection.parts.losses import TwoStageLoss
from zoo.models.inputs import padded_images
from zoo.types import Preprocessing

_HALF = (0.5, 0.5, 0.5)


def _variant(
    size: tuple[int, int] = (800, 1333), parity: str | None = None, **fields: Any
) -> Variant:
    return Variant(fields, Preprocessing(size, interpolation="bilinear"), parity=parity)


# torchvision's second version: arXiv 2111.11429.
_V2 = {
    "backbone_fields": FrozenDict({"norm": "batch"}),
    "pyramid_norm": "batch",
    "rpn_convs": 2,
    "box_conv_dims": (256, 256, 256, 256),
    "box_dims": (1024,),
    "box_norm": "batch",
}
# torchvision's: both maps have stride 32; every level has anchors of all sizes.
_MOBILENET = {
    "backbone": "mobilenetv3_large_100",
    "backbone_fields": FrozenDict({"map_blocks": (12, 15)}),
    "anchor_fields": FrozenDict({"sizes": ((32, 64, 128, 256, 512),) * 3, "rounded": True}),
    "proposal_fields": FrozenDict({"score_threshold": 0.05}),
}
_MOBILENET_320 = {
    **_MOBILENET,
    "proposal_fields": FrozenDict({"score_threshold": 0.05, "candidates": 150, "kept": 150}),
}
# Objects of 8 to 28 px in images of 64 px: every number of pixels is smaller in proportion.
_NANO = {
    "backbone": "resnet_nano",
    "backbone_fields": FrozenDict(
        {"num_blocks": (2, 2), "stage_dims": (48, 96), "stem_dim": 48, "norm": "batch"}
    ),
    "pyramid_dim": 64,
    "anchor_fields": FrozenDict(
        {"sizes": ((8, 11), (14, 18), (22, 28)), "ratios": (1.0, 1.5, 2.2), "strides": (4, 8, 16)}
    ),
    "proposal_fields": FrozenDict(
        {"candidates": 128, "kept": 64, "train_candidates": 128, "train_kept": 64}
    ),
    "anchor_sampling": FrozenDict({"num": 64}),
    "roi_sampling": FrozenDict({"num": 32}),
    "pooling_fields": FrozenDict({"canonical_size": 16, "canonical_level": 3}),
    "box_dims": (256, 256),
}

_VARIANTS = {
    # Not from a paper: for tests, demos and small images.
    "fasterrcnn_nano": Variant(
        _NANO, Preprocessing((64, 64), _HALF, _HALF, interpolation="bilinear")
    ),
    "fasterrcnn_resnet50_fpn": _variant(parity="1e-6, torchvision"),
    "fasterrcnn_resnet50_fpn_v2": _variant(parity="1e-6, torchvision", **_V2),
    "fasterrcnn_mobilenet_v3_large_fpn": _variant(parity="1e-6, torchvision", **_MOBILENET),
    "fasterrcnn_mobilenet_v3_large_320_fpn": _variant(
        (320, 640), "1e-6, torchvision", **_MOBILENET_320
    ),
}


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then the pyramid."""
    return (*backbone_layers(model.make_body()), ("pyramid",))


FAMILY = Family(
    title="Faster R-CNN",
    summary="R50 with FPN, its version 2, MobileNetV3",
    module=FasterRCNN,
    task="detection",
    paper="1506.01497",
    reference="torchvision, detectron2",
    inputs=padded_images,
    names=NAMES,
    loss=TwoStageLoss,
    decode=softmax_rois,
    layers=_layers,
    head=("params/box/predictor/",),
    constant=("anchors", "proposals"),
    chosen=("proposals", "class_logits", "box_deltas"),
    variants=_VARIANTS,
)
