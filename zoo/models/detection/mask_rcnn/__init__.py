"""Mask R-CNN: see `model`."""

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.detection.mask_rcnn.model import MaskRCNN
from zoo.models.detection.mask_rcnn.names import NAMES
from zoo.models.detection.parts.mask_loss import MaskRCNNLoss
from zoo.models.detection.parts.objects import mask_detections
from zoo.models.detection.parts.variants import C4, NANO, V2, nano_variant, rcnn_layers, variant
from zoo.models.inputs import padded_images

FAMILY = Family(
    title="Mask R-CNN",
    summary="R50 with FPN, its version 2, C4; ResNeXt101",
    module=MaskRCNN,
    task="detection",
    paper="1703.06870",
    reference="torchvision, detectron2",
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
        # Not from a paper: for tests, demos and small images. Of the two conventions, detectron2's
        # places masks exactly: half a pixel is much for thin strokes.
        "maskrcnn_nano": nano_variant(
            pooling_fields=FrozenDict({**NANO["pooling_fields"], "aligned": True}),
            paste="centres",
            decoding_fields=FrozenDict({"most": 20, "score_threshold": 0.0}),
            mask_conv_dims=(48, 48),
            mask_dim=48,
        ),
        # detectron2's: the transposed convolution takes the last stage's maps of regions.
        "maskrcnn_resnet50_c4": variant(
            **C4,
            decoding_fields=FrozenDict({"min_size": 0.0}),
            paste="centres",
            mask_conv_dims=(),
        ),
        "maskrcnn_resnet50_fpn": variant(parity="4e-6, torchvision"),
        "maskrcnn_resnet50_fpn_v2": variant(parity="6e-6, torchvision", **V2, mask_norm="batch"),
        # detectron2's.
        "maskrcnn_resnext101_32x8d_fpn": variant(
            backbone="resnext101_32x8d",
            num_classes=80,
            decoding_fields=FrozenDict({"min_size": 0.0}),
            paste="centres",
        ),
    },
)
