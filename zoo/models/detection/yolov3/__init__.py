"""YOLO v3: see `model`."""

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.detection.parts.yolo import yolo_detections
from zoo.models.detection.parts.yolo_loss import YoloLoss
from zoo.models.detection.parts.yolo_variants import yolo_layers, yolo_nano, yolo_variant
from zoo.models.detection.yolov3.model import YOLOv3
from zoo.models.detection.yolov3.names import NAMES
from zoo.models.inputs import padded_images

# darknet's cfg/yolov3-tiny.cfg.
_TINY = {
    "backbone": "darknet_reference",
    "backbone_fields": FrozenDict({"last_pool_stride": 1}),
    "anchor_fields": FrozenDict(
        {"sizes": (((10, 14), (23, 27), (37, 58)), ((81, 82), (135, 169), (344, 319)))}
    ),
    "neck_dims": (128, 256),
    "neck_convs": (0, 1),
}
# Grids of 16 x 16 and 8 x 8 cells for digits of 8 to 28 px that are taller than wide.
_NANO = {
    "backbone": "darknet_nano",
    "anchor_fields": FrozenDict(
        {"sizes": (((7, 11), (9, 14), (10, 17)), ((12, 20), (15, 23), (17, 27)))}
    ),
    "neck_dims": (32, 48),
    "neck_convs": (1, 1),
}

FAMILY = Family(
    title="YOLO v3",
    summary="Darknet-53 with and without SPP, tiny",
    module=YOLOv3,
    task="detection",
    paper="1804.02767",
    reference="darknet, mmdet",
    inputs=padded_images,
    names=NAMES,
    loss=YoloLoss,
    decode=yolo_detections,
    layers=yolo_layers,
    head=tuple(f"params/levels_{i}/logits/" for i in range(3)),
    constant=("anchors",),
    variants={
        # Not from a paper: for tests, demos and small images.
        "yolov3_nano": yolo_nano(**_NANO),
        "yolov3": yolo_variant(608),
        "yolov3_spp": yolo_variant(608, pool_sizes=(13, 9, 5)),
        "yolov3_tiny": yolo_variant(416, **_TINY),
    },
)
