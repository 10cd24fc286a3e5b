"""Keypoint R-CNN: see `model`."""

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.detection.keypoint_rcnn.decode import decode
from zoo.models.detection.keypoint_rcnn.loss import KeypointRCNNLoss
from zoo.models.detection.keypoint_rcnn.model import KeypointRCNN
from zoo.models.detection.keypoint_rcnn.names import NAMES
from zoo.models.detection.parts.variants import nano_variant, rcnn_layers, variant
from zoo.models.inputs import padded_images

FAMILY = Family(
    title="Keypoint R-CNN",
    summary="R50 with FPN",
    module=KeypointRCNN,
    task="detection",
    paper="1703.06870",
    reference="torchvision, detectron2",
    inputs=padded_images,
    names=NAMES,
    loss=KeypointRCNNLoss,
    decode=decode,
    layers=rcnn_layers,
    learns=lambda _: ("keypoints",),
    head=("params/box/predictor/", "params/keypoints/head/deconv/"),
    constant=("anchors", "proposals", "detections"),
    chosen=("proposals", "class_logits", "box_deltas", "detections", "keypoint_logits"),
    variants={
        # Not from a paper: for tests, demos and small images.
        "keypointrcnn_nano": nano_variant(
            decoding_fields=FrozenDict({"most": 20, "score_threshold": 0.0}),
            keypoint_conv_dims=(48, 48),
        ),
        "keypointrcnn_resnet50_fpn": variant(parity="2e-6, torchvision"),
    },
)
