"""Cascade R-CNN: see `model`."""

from typing import Any

from zoo.family import Family, Variant
from zoo.models.backbones import backbone_layers
from zoo.models.detection.cascade_rcnn.decode import cascade_rois
from zoo.models.detection.cascade_rcnn.loss import CascadeLoss
from zoo.models.detection.cascade_rcnn.model import CascadeRCNN
from zoo.models.detection.cascade_rcnn.names import NAMES
from zoo.models.detection.parts.variants import NANO
from zoo.models.inputs import padded_images
from zoo.types import Preprocessing

_HALF = (0.5, 0.5, 0.5)

_VARIANTS = {
    # Not from a paper: for tests, demos and small images.
    "cascade_rcnn_nano": Variant(
        NANO, Preprocessing((64, 64), _HALF, _HALF, interpolation="bilinear")
    ),
    "cascade_rcnn_resnet50_fpn": Variant(
        {"num_classes": 80}, Preprocessing((800, 1333), interpolation="bilinear")
    ),
}


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then the pyramid."""
    return (*backbone_layers(model.make_body()), ("pyramid",))


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
    layers=_layers,
    head=tuple(f"params/cascade_{k}/predictor/logits/" for k in range(3)),
    constant=("anchors", "proposals"),
    chosen=("proposals", "class_logits", "box_deltas"),
    variants=_VARIANTS,
)
