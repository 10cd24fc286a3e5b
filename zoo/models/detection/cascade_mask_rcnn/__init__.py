"""Cascade R-CNN with masks: see `model`."""

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.detection.cascade_mask_rcnn.loss import CascadeMaskLoss
from zoo.models.detection.cascade_mask_rcnn.model import CascadeMaskRCNN
from zoo.models.detection.cascade_mask_rcnn.names import NAMES
from zoo.models.detection.parts.objects import mask_detections
from zoo.models.detection.parts.variants import nano_variant, rcnn_layers, variant
from zoo.models.inputs import padded_images

_VARIANTS = {
    # Not from a paper: for tests, demos and small images.
    "cascade_maskrcnn_nano": nano_variant(
        decoding_fields=FrozenDict({"most": 20, "score_threshold": 0.0}),
        mask_conv_dims=(48, 48),
        mask_dim=48,
    ),
    "cascade_maskrcnn_resnet50_fpn": variant(
        num_classes=80, decoding_fields=FrozenDict({"min_size": 0.0}), paste="centres"
    ),
}

FAMILY = Family(
    title="Cascade Mask R-CNN",
    summary="R50 with FPN",
    module=CascadeMaskRCNN,
    task="detection",
    paper="1906.09756",
    reference="detectron2",
    inputs=padded_images,
    names=NAMES,
    loss=CascadeMaskLoss,
    decode=mask_detections,
    layers=rcnn_layers,
    learns=lambda _: ("masks",),
    head=(
        *(f"params/cascade_{k}/predictor/logits/" for k in range(3)),
        "params/mask/head/logits/",
    ),
    constant=("anchors", "proposals", "detections"),
    chosen=("proposals", "class_logits", "box_deltas", "detections", "mask_logits"),
    variants=_VARIANTS,
)
