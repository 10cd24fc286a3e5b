"""FCOS: see `model`."""

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.detection.fcos.loss import FCOSLoss
from zoo.models.detection.fcos.model import FCOS
from zoo.models.detection.fcos.names import NAMES
from zoo.models.detection.parts.dense import dense_detections
from zoo.models.detection.parts.variants import (
    PIXELS,
    dense_layers,
    dense_nano,
    variant,
)
from zoo.models.inputs import padded_images

_STRIDES = (8, 16, 32, 64, 128)
# mmdet's, of the first paper: exponentials of distances in pixels, points in the middle of cells.
_CAFFE = {
    "num_classes": 80,
    "backbone_fields": FrozenDict({"stride_in_1x1": True}),
    "tower_bias": False,
    "distances": "exp",
    "level_scales": True,
    "relative": False,
    "centerness_tower": "class",
    "anchor_fields": FrozenDict(
        {
            "sizes": tuple((stride,) for stride in _STRIDES),
            "ratios": (1.0,),
            "strides": _STRIDES,
            "offset": 0.5,
        }
    ),
    "decoding_fields": FrozenDict({"most": 100, "centerness": "after", "drop_empty": True}),
}
# mmdet's, of the second paper: ``center-normbbox-centeronreg-giou``.
_IMPROVED = {
    **_CAFFE,
    "tower_bias": True,
    "distances": "relu",
    "relative": True,
    "centerness_tower": "box",
    "decoding_fields": FrozenDict({**_CAFFE["decoding_fields"], "iou_threshold": 0.6}),
}

FAMILY = Family(
    title="FCOS",
    summary="R50 with FPN, as torchvision's and as mmdet's of both papers",
    module=FCOS,
    task="detection",
    paper="1904.01355",
    reference="torchvision, mmdet",
    inputs=padded_images,
    names=NAMES,
    loss=FCOSLoss,
    decode=dense_detections,
    layers=dense_layers,
    head=("params/head/logits/",),
    constant=("anchors",),
    variants={
        # Not from a paper: for tests, demos and small images. Its points are in the middle of the
        # cells, and objects of up to 12 px from a point belong to the finer map.
        "fcos_nano": dense_nano(
            anchor_fields=FrozenDict(
                {"sizes": ((4,), (8,)), "ratios": (1.0,), "strides": (4, 8), "offset": 0.5}
            ),
            decoding_fields={"iou_threshold": 0.6},
            limits=(12.0,),
            distances="exp",
        ),
        "fcos_resnet50_fpn": variant(parity="4e-6"),
        "fcos_resnet50_caffe_fpn": variant(std=PIXELS, **_CAFFE),
        "fcos_imprv_resnet50_caffe_fpn": variant(std=PIXELS, paper="2006.09214", **_IMPROVED),
    },
)
