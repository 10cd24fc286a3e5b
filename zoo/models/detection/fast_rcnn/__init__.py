"""Fast R-CNN: see `model`."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.backbones import backbone_layers
from zoo.models.detection.fast_rcnn.model import FastRCNN
from zoo.models.detection.fast_rcnn.names import NAMES
from zoo.models.detection.parts.decode import region_rois
from zoo.models.detection.parts.region_loss import RegionLoss
from zoo.models.detection.parts.variants import (
    NANO,
    proposing_nano,
    proposing_variant,
)
from zoo.models.inputs import padded_images

_VARIANTS = {
    # The paper's form on a small backbone: for tests, demos and small images.
    "fastrcnn_nano": proposing_nano(
        backbone_fields=FrozenDict({**NANO["backbone_fields"], "dilated_stages": 1}),
        neck="none",
        pooling_fields=FrozenDict({"operation": "pool", "size": 5}),
        box_dims=(256,),
        roi_sampling=FrozenDict({"num": 32, "background_floor": 0.1}),
        decoding_fields=FrozenDict({"iou_threshold": 0.3}),
    ),
    "fastrcnn_resnet50_fpn": proposing_variant((800, 1333), paper="1612.03144"),
}


def _layers(model: Any) -> tuple[tuple[str, ...], ...]:
    """The backbone's layers, then the pyramid if there is one."""
    return (*backbone_layers(model.make_body()), *[("pyramid",)] * (model.neck == "fpn"))


FAMILY = Family(
    title="Fast R-CNN",
    summary="R50 with FPN",
    module=FastRCNN,
    task="detection",
    paper="1504.08083",
    reference="detectron2",
    inputs=padded_images,
    names=NAMES,
    loss=RegionLoss,
    decode=region_rois,
    layers=_layers,
    head=("params/box/predictor/",),
    constant=("proposals",),
    takes_proposals=True,
    variants=_VARIANTS,
)
