"""Names of torchvision and mmdet for FCOS.

mmdet's files ``fcos_r50-caffe_fpn_gn-head_*`` are of the first paper: the distances are
exponentials in pixels, the centerness comes from the tower of classes. Its files with
``center-normbbox-centeronreg-giou`` in their names are of the second paper: they need
``distances="relu", relative=True, centerness_tower="box"``, which a file does not say.
"""

from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.detection.parts.dense_names import (
    block_tower,
    level_strides,
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


def _mmdet_fields(model: Any) -> dict[str, Any]:
    strides = level_strides(model)
    fields: dict[str, Any] = {
        "level_scales": True,
        "distances": "exp",
        "relative": False,
        "centerness_tower": "class",
        "anchor_fields": {
            "sizes": tuple((stride,) for stride in strides),
            "ratios": (1.0,),
            "strides": strides,
            "offset": 0.5,
        },
        "decoding_fields": {
            **model.decoding_fields,
            "score_threshold": 0.05,
            "iou_threshold": 0.5,
            "centerness": "after",
        },
    }
    if getattr(model.make_body(), "block", "") == "bottleneck":
        fields["backbone_fields"] = {"stride_in_1x1": True, **model.backbone_fields}
    return fields


NAMES = (
    NameMap("torchvision", torchvision, BATCH_COUNTERS, fields={"norm_epsilon": 1e-5}),
    NameMap(
        "mmdet",
        mmdet,
        BATCH_COUNTERS,
        fields=_mmdet_fields,
        preprocessing=mmdet_preprocessing,
    ),
)
