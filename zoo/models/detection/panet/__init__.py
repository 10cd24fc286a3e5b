"""PANet: see `model`."""

from typing import Any

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.detection.panet.model import PANet
from zoo.models.detection.panet.names import NAMES
from zoo.models.detection.parts.mask_loss import MaskRCNNLoss
from zoo.models.detection.parts.objects import mask_detections
from zoo.models.detection.parts.variants import NANO, nano_variant, rcnn_layers, variant
from zoo.models.inputs import padded_images

_GROUP_NORMS: dict[str, Any] = {
    "neck": "panet",
    "pyramid_norm": "group",
    "box_norm": "group",
    "mask_norm": "group",
}
_ANCHORS = {
    "sizes": ((32,), (64,), (128,), (256,), (512,)),
    "strides": (4, 8, 16, 32, 64),
    "legacy": True,
    "far_edge": True,
}

FAMILY = Family(
    title="PANet",
    summary="R50",
    module=PANet,
    task="detection",
    paper="1803.01534",
    reference="the authors' code",
    inputs=padded_images,
    names=NAMES,
    loss=MaskRCNNLoss,
    decode=mask_detections,
    layers=rcnn_layers,
    learns=lambda _: ("masks",),
    head=("params/box/predictor/", "params/mask/head/logits/"),
    constant=("anchors", "proposals", "detections"),
    chosen=("proposals", "class_logits", "box_deltas", "detections", "mask_logits"),
    variants={
        # Not from a paper: for tests, demos and small images.
        "panet_nano": nano_variant(
            **_GROUP_NORMS,
            pooling_fields=FrozenDict({**NANO["pooling_fields"], "aligned": True}),
            paste="centres",
            decoding_fields=FrozenDict({"most": 20, "score_threshold": 0.0}),
            roi_sampling=FrozenDict({"num": 64}),
            box_conv_dims=(64, 64),
            box_dims=(256,),
            mask_pool_size=8,
            mask_conv_dims=(64, 64),
        ),
        "panet_resnet50_fpn": variant(
            (1000, 1400),
            **_GROUP_NORMS,
            num_classes=80,
            anchor_fields=FrozenDict(_ANCHORS),
            proposal_fields=FrozenDict({"min_size": 1.0}),
            pooling_fields=FrozenDict({"last_pixel": True}),
            decoding_fields=FrozenDict({"min_size": 1.0}),
            box_conv_dims=(256, 256, 256, 256),
            box_dims=(1024,),
        ),
    },
)
