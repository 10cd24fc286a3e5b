"""FCOS: see `model`."""

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.detection.fcos.loss import FCOSLoss
from zoo.models.detection.fcos.model import FCOS
from zoo.models.detection.fcos.names import NAMES
from zoo.models.detection.parts.dense import dense_detections
from zoo.models.detection.parts.variants import dense_layers, dense_nano, variant
from zoo.models.inputs import padded_images

FAMILY = Family(
    title="FCOS",
    summary="R50 with FPN",
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
        "fcos_resnet50_fpn": variant(),
    },
)
