"""YOLO v2: see `model`."""

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.detection.parts.yolo import yolo_detections
from zoo.models.detection.parts.yolo_loss import YoloLoss
from zoo.models.detection.parts.yolo_variants import yolo_layers, yolo_nano, yolo_variant
from zoo.models.detection.yolov2.model import YOLOv2, in_cells
from zoo.models.detection.yolov2.names import NAMES
from zoo.models.inputs import padded_images

# darknet's cfg/yolov2-tiny.cfg: neither a second 3 x 3 convolution nor the finer map.
_TINY = {
    "backbone": "darknet_reference",
    "backbone_fields": FrozenDict({"last_pool_stride": 1}),
    "neck_dims": (512,),
    "passthrough_dim": None,
    "merged_dim": None,
}
# darknet's cfg/yolov2-voc.cfg and cfg/yolov2-tiny-voc.cfg.
_VOC = {
    "num_classes": 20,
    "anchor_fields": in_cells(
        (1.3221, 1.73145),
        (3.19275, 4.00944),
        (5.05587, 8.09892),
        (9.47112, 4.84053),
        (11.2364, 10.0071),
    ),
}
_TINY_VOC = {
    "num_classes": 20,
    "neck_dims": (1024,),
    "anchor_fields": in_cells(
        (1.08, 1.19), (3.42, 4.41), (6.63, 11.38), (9.42, 5.11), (16.62, 10.52)
    ),
}
# One grid of 8 x 8 cells for digits of 8 to 28 px that are taller than wide.
_NANO = {
    "backbone": "darknet_nano",
    "anchor_fields": FrozenDict({"sizes": (((8, 12), (10, 17), (13, 21), (15, 23), (17, 27)),)}),
    "neck_dims": (96, 96),
    "passthrough_dim": 16,
    "merged_dim": 96,
}

FAMILY = Family(
    title="YOLO v2",
    summary="Darknet-19, tiny, for COCO and PASCAL VOC",
    module=YOLOv2,
    task="detection",
    paper="1612.08242",
    reference="darknet",
    inputs=padded_images,
    names=NAMES,
    loss=YoloLoss,
    decode=yolo_detections,
    layers=yolo_layers,
    head=("params/levels_0/logits/",),
    constant=("anchors",),
    variants={
        # Not from a paper: for tests, demos and small images.
        "yolov2_nano": yolo_nano(**_NANO),
        "yolov2": yolo_variant(608),
        "yolov2_voc": yolo_variant(416, **_VOC),
        "yolov2_tiny": yolo_variant(416, **_TINY),
        "yolov2_tiny_voc": yolo_variant(416, **{**_TINY, **_TINY_VOC}),
    },
)
