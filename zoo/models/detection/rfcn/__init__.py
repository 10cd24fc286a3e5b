"""R-FCN: see `model`."""

from flax.core import FrozenDict

from zoo.family import Family
from zoo.models.detection.parts.decode import softmax_rois
from zoo.models.detection.parts.variants import NANO_C4, nano_variant, rcnn_layers, variant
from zoo.models.detection.rfcn.loss import RFCNLoss
from zoo.models.detection.rfcn.model import RFCN
from zoo.models.inputs import padded_images

_ANCHORS = {"sizes": ((128, 256, 512),), "strides": (16,), "offset": 0.5}
_PROPOSALS = {
    "train_candidates": 6000,
    "candidates": 6000,
    "train_kept": 300,
    "kept": 300,
    "min_size": 16.0,
}

FAMILY = Family(
    title="R-FCN",
    summary="R50",
    module=RFCN,
    task="detection",
    paper="1605.06409",
    reference="py-R-FCN",
    inputs=padded_images,
    loss=RFCNLoss,
    decode=softmax_rois,
    layers=rcnn_layers,
    head=("params/box/logits/",),
    constant=("anchors", "proposals"),
    chosen=("proposals", "class_logits", "box_deltas"),
    variants={
        # Not from a paper: for tests, demos and small images.
        "rfcn_nano": nano_variant(**NANO_C4, rpn_dim=64, vote_dim=128, bins=3),
        # 600 px as for VOC; the authors have the same for COCO.
        "rfcn_resnet50": variant(
            (600, 1000),
            num_classes=20,
            neck="none",
            anchor_fields=FrozenDict(_ANCHORS),
            proposal_fields=FrozenDict(_PROPOSALS),
        ),
    },
)
