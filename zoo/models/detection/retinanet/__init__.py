"""RetinaNet: see `model`."""

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.detection.parts.dense import dense_detections
from zoo.models.detection.parts.variants import dense_layers, dense_nano, variant
from zoo.models.detection.retinanet.loss import RetinaNetLoss
from zoo.models.detection.retinanet.model import RetinaNet
from zoo.models.detection.retinanet.names import NAMES
from zoo.models.inputs import padded_images

# Three sizes a level, as in the paper, for objects of 8 to 28 px.
_SIZES = tuple(tuple(side * 2 ** (k / 3) for k in range(3)) for side in (9, 16))

FAMILY = Family(
    title="RetinaNet",
    summary="R50 with FPN, its version 2, detectron2's and mmdet's",
    module=RetinaNet,
    task="detection",
    paper="1708.02002",
    reference="torchvision, detectron2, mmdet",
    inputs=padded_images,
    names=NAMES,
    loss=RetinaNetLoss,
    decode=dense_detections,
    layers=dense_layers,
    head=("params/head/logits/",),
    constant=("anchors",),
    variants={
        # Not from a paper: for tests, demos and small images.
        "retinanet_nano": dense_nano(
            anchor_fields=FrozenDict(
                {"sizes": _SIZES, "ratios": (1.0, 1.5, 2.2), "strides": (4, 8)}
            ),
        ),
        "retinanet_resnet50_fpn": variant(parity="1e-6"),
        # detectron2's and mmdet's, and the paper's: P6 is made from C5.
        "retinanet_resnet50_fpn_c5": variant(num_classes=80, extra="input"),
        "retinanet_resnet50_fpn_v2": variant(
            parity="1e-6",
            paper="1912.02424",
            backbone_fields=FrozenDict({"norm": "batch"}),
            extra="input",
            head_norm="group",
        ),
    },
)
