"""YOLO v1: see `model`."""

from zoo.family import Family
from zoo.models.detection.parts.yolo import yolo_detections
from zoo.models.detection.parts.yolo_variants import yolo_layers, yolo_nano, yolo_variant
from zoo.models.detection.yolov1.loss import YoloV1Loss
from zoo.models.detection.yolov1.model import YOLOv1
from zoo.models.detection.yolov1.names import NAMES
from zoo.models.inputs import padded_images

# darknet's cfg/yolov1.cfg and cfg/yolov1-tiny.cfg.
_LOCAL = {"num_boxes": 3, "local_dim": 256, "hidden_dims": ()}
_TINY = {
    "backbone": "darknet_reference",
    "extra_dims": (256,),
    "extra_strides": (1,),
    "hidden_dims": (),
    "dropout": 0.0,
}
# A grid of 8 x 8 cells.
_NANO = {
    "image_size": 64,
    "backbone": "darknet_nano",
    "extra_dims": (32,),
    "extra_strides": (1,),
    "hidden_dims": (),
    "dropout": 0.0,
}

FAMILY = Family(
    title="YOLO v1",
    summary="the paper's, darknet's with a local layer, tiny",
    module=YOLOv1,
    task="detection",
    paper="1506.02640",
    reference="darknet",
    inputs=padded_images,
    names=NAMES,
    loss=YoloV1Loss,
    decode=yolo_detections,
    layers=yolo_layers,
    head=("params/logits/",),
    constant=("anchors",),
    variants={
        # Not from a paper: for tests, demos and small images.
        "yolov1_nano": yolo_nano(**_NANO),
        "yolov1": yolo_variant(448),
        "yolov1_local": yolo_variant(448, **_LOCAL),
        "yolov1_tiny": yolo_variant(448, **_TINY),
    },
)
