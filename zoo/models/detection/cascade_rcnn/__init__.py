"""Cascade R-CNN: see `model`."""

from zoo.family import Family
from zoo.models.detection.cascade_rcnn.model import CascadeRCNN
from zoo.models.detection.cascade_rcnn.names import NAMES
from zoo.models.detection.parts.cascade import cascade_rois
from zoo.models.detection.parts.cascade_loss import CascadeLoss
from zoo.models.detection.parts.variants import nano_variant, rcnn_layers, variant
from zoo.models.inputs import padded_images

_VARIANTS = {
    # Not from a paper: for tests, demos and small images.
    "cascade_rcnn_nano": nano_variant(),
    "cascade_rcnn_resnet50_fpn": variant(num_classes=80),
}


FAMILY = Family(
    title="Cascade R-CNN",
    summary="R50 with FPN",
    module=CascadeRCNN,
    task="detection",
    paper="1712.00726",
    reference="detectron2, mmdet",
    inputs=padded_images,
    names=NAMES,
    loss=CascadeLoss,
    decode=cascade_rois,
    layers=rcnn_layers,
    head=tuple(f"params/cascade_{k}/predictor/logits/" for k in range(3)),
    constant=("anchors", "proposals"),
    chosen=("proposals", "class_logits", "box_deltas"),
    variants=_VARIANTS,
)
