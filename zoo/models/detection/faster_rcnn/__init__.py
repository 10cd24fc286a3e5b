"""Faster R-CNN: see `model`."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Family, Variant
from zoo.models.backbones import backbone_layers
from zoo.models.detection.faster_rcnn.model import FasterRCNN
from zoo.models.detection.faster_rcnn.names import NAMES
from zoo.models.detection.parts.decode import softmax_rois
from zoo.models.detection.parts.losses import TwoStageLoss
from zoo.models.detection.parts.variants import NANO, V2
from zoo.models.inputs import padded_images
from zoo.types import Preprocessing

_HALF = (0.5, 0.5, 0.5)


def _variant(
    size: tuple[int, int] = (800, 1333), parity: str | None = None, **fields: Any
) -> Variant:
    return Variant(fields, Preprocessing(size, interpolation="bilinear"), parity=parity)


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
# detectron2's: the first three stages of the ResNet, without a pyramid.
_C4 = {
    "num_classes": 80,
    "neck": "none",
    "anchor_fields": FrozenDict(
        {"sizes": ((32, 64, 128, 256, 512),), "strides": (16,), "order": "size"}
    ),
    "proposal_fields": FrozenDict(
        {"train_candidates": 12_000, "candidates": 6_000, "train_kept": 2_000, "min_size": 0.0}
    ),
    "pooling_fields": FrozenDict({"size": 14, "sampling_ratio": 0, "aligned": True}),
}
# mmdet's.
_PAFPN = {"num_classes": 80, "neck": "pafpn"}

_VARIANTS = {
    # Not from a paper: for tests, demos and small images.
    "fasterrcnn_nano": Variant(
        NANO, Preprocessing((64, 64), _HALF, _HALF, interpolation="bilinear")
    ),
    "fasterrcnn_resnet50_c4": _variant(**_C4),
    "fasterrcnn_resnet50_fpn": _variant(),
    "fasterrcnn_resnet50_fpn_v2": _variant(**V2),
    "fasterrcnn_resnet50_pafpn": Variant(
        _PAFPN, Preprocessing((800, 1333), interpolation="bilinear"), paper="1803.01534"
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": _variant(**_MOBILENET),
    "fasterrcnn_mobilenet_v3_large_320_fpn": _variant((320, 640), **_MOBILENET_320),
}


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then the pyramid or the backbone's last stage."""
    return (*backbone_layers(model.make_body()), ("pyramid", "box/stage"))


FAMILY = Family(
    title="Faster R-CNN",
    summary="R50 with FPN, its version 2, PAFPN, C4; MobileNetV3",
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
