"""Names of torchvision and mmdet for FCOS.

mmdet's files belong to the models with ``caffe`` in their names: their backbones take pixels of
0..255 in the order BGR. We always take RGB images.
"""

from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.detection.parts.dense_names import (
    block_tower,
    logits_without_background,
    mmdet_trunk,
    sequential_tower,
    torchvision_trunk,
)
from zoo.models.detection.parts.mmdet import mmdet_preprocessing
from zoo.weights.maps import BATCH_COUNTERS, biased_conv, rule


def torchvision(model: Any) -> tuple[Rule, ...]:
    """Rules for `FCOS`."""
    theirs, count = "head.{}_head.conv", model.num_convs
    return (
        *torchvision_trunk(model),
        *sequential_tower(theirs.format("classification"), "head/class_tower", count, 3),
        *sequential_tower(theirs.format("regression"), "head/box_tower", count, 3),
        *logits_without_background("head.classification_head.cls_logits", "head/logits", 1),
        *biased_conv("head.regression_head.bbox_reg", "head/deltas"),
        *biased_conv("head.regression_head.bbox_ctrness", "head/centerness"),
    )


def mmdet(model: Any) -> tuple[Rule, ...]:
    """Rules for `FCOS`."""
    return (
        *mmdet_trunk(model),
        *block_tower("bbox_head.cls_convs", "head/class_tower", "conv", "gn"),
        *block_tower("bbox_head.reg_convs", "head/box_tower", "conv", "gn"),
        *biased_conv("bbox_head.conv_cls", "head/logits"),
        *biased_conv("bbox_head.conv_reg", "head/deltas"),
        *biased_conv("bbox_head.conv_centerness", "head/centerness"),
        rule("bbox_head.scales.{i}.scale", "head/scale_{i}"),
    )


NAMES = (
    NameMap("torchvision", torchvision, BATCH_COUNTERS, fields={"norm_epsilon": 1e-5}),
    NameMap("mmdet", mmdet, BATCH_COUNTERS, preprocessing=mmdet_preprocessing),
)
