"""mmdet's names for the parts of two-stage detectors, and what follows from this source.

Its files of the style ``caffe`` need ``backbone_fields={"stride_in_1x1": True}``: such backbones
take pixels of 0..255 in the order BGR, and a file does not say so. We always take RGB images.

Deviation: mmdet also limits how much smaller than its anchor a box becomes, to 16 / 1000.
"""

import dataclasses
from typing import Any

from zoo.family import Rule
from zoo.models.backbones import backbone_rules
from zoo.models.detection.parts.names import dense_layers, nominal_strides
from zoo.types import Preprocessing
from zoo.weights.blocks import mmdet_fpn
from zoo.weights.maps import biased_conv, dense

MMDET_POOLING = {
    "sampling_ratio": 0,
    "aligned": True,
    "canonical_size": 56,
    "canonical_level": 2,
    "level_epsilon": 0.0,
    "ratio_epsilon": 1e-6,
}


def mmdet_fields(model: Any) -> dict[str, Any]:
    """The anchors, proposals and pooling of mmdet's models."""
    anchors = {"rounded": False, "order": "ratio", "strides": nominal_strides(model)}
    return {
        "anchor_fields": {**model.anchor_fields, **anchors},
        "proposal_fields": {"train_kept": 1000, "min_size": 0.0, **model.proposal_fields},
        "pooling_fields": {**MMDET_POOLING, **model.pooling_fields},
    }


def mmdet_preprocessing(model: Any, file: str) -> Preprocessing:
    """Pixels of 0..255 less the mean if the backbone is of the style ``caffe``."""
    how = Preprocessing((800, 1333), interpolation="bilinear")
    caffe = getattr(model.make_body(), "stride_in_1x1", False)
    return dataclasses.replace(how, std=(1 / 255,) * 3) if caffe else how


def mmdet_proposals(model: Any) -> tuple[Rule, ...]:
    """Rules for a backbone with an `FPN` or `PAFPN` or none, and for an `RPNHead`."""
    body = model.make_body()
    return (
        *backbone_rules(body, "mmdet", "backbone."),
        *mmdet_fpn("neck", "pyramid", levels=len(body.feature_strides)),
        *backbone_rules(model.make_net(), "mmdet", "roi_head.shared_head.", "box/stage"),
        *biased_conv("rpn_head.rpn_conv", "rpn/head/conv_0"),
        *biased_conv("rpn_head.rpn_cls", "rpn/head/logits"),
        *biased_conv("rpn_head.rpn_reg", "rpn/head/deltas"),
    )


def mmdet_dense(model: Any, theirs: str = "roi_head.bbox_head", ours: str = "box") -> list[Rule]:
    """Rules for the layers of a `Shared2FCBBoxHead` before its outputs.

    Args:
        model: A model with `box_dims` and `pooling_fields`.
        theirs: Its path.
        ours: The path of our `BoxBranch`.
    """
    names = [f"{theirs}.shared_fcs.{i}" for i in range(len(model.box_dims))]
    return dense_layers(names, model, ours)


def mmdet_rcnn(model: Any) -> tuple[Rule, ...]:
    """Rules for a `FasterRCNN`."""
    return (
        *mmdet_proposals(model),
        *mmdet_dense(model),
        *dense("roi_head.bbox_head.fc_cls", "box/predictor/logits"),
        *dense("roi_head.bbox_head.fc_reg", "box/predictor/deltas"),
    )
