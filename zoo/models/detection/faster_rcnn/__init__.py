"""Faster R-CNN: see `model`."""

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.detection.faster_rcnn.model import FasterRCNN
from zoo.models.detection.faster_rcnn.names import NAMES
from zoo.models.detection.parts.decode import softmax_rois
from zoo.models.detection.parts.losses import TwoStageLoss
from zoo.models.detection.parts.variants import C4, V2, nano_variant, rcnn_layers, variant
from zoo.models.inputs import padded_images

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
_PARITY = "1e-6, torchvision"
_VARIANTS = {
    # Not from a paper: for tests, demos and small images.
    "fasterrcnn_nano": nano_variant(),
    "fasterrcnn_resnet50_c4": variant(**C4),
    "fasterrcnn_resnet50_fpn": variant(parity=_PARITY),
    "fasterrcnn_resnet50_fpn_v2": variant(parity=_PARITY, **V2),
    # mmdet's.
    "fasterrcnn_resnet50_pafpn": variant(paper="1803.01534", num_classes=80, neck="pafpn"),
    # detectron2's.
    "fasterrcnn_resnext101_32x8d_fpn": variant(num_classes=80, backbone="resnext101_32x8d"),
    "fasterrcnn_mobilenet_v3_large_fpn": variant(parity=_PARITY, **_MOBILENET),
    "fasterrcnn_mobilenet_v3_large_320_fpn": variant((320, 640), _PARITY, **_MOBILENET_320),
}


FAMILY = Family(
    title="Faster R-CNN",
    summary="R50 with FPN, its version 2, PAFPN, C4; ResNeXt101; MobileNetV3",
    module=FasterRCNN,
    task="detection",
    paper="1506.01497",
    reference="torchvision, detectron2, mmdet",
    inputs=padded_images,
    names=NAMES,
    loss=TwoStageLoss,
    decode=softmax_rois,
    layers=rcnn_layers,
    head=("params/box/predictor/",),
    constant=("anchors", "proposals"),
    chosen=("proposals", "class_logits", "box_deltas"),
    variants=_VARIANTS,
)
