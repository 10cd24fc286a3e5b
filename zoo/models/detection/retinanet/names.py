"""Names of torchvision, detectron2 and mmdet for RetinaNet.

torchvision's files from before its version 0.13 have other names for the convolutions of the
pyramid and of the towers. Its first version was trained with frozen norms without an epsilon.
detectron2's and mmdet's files belong to the model with ``c5`` in its name; they have anchors whose
sizes have fractions, and mmdet's have no ReLU between the extra levels.
"""

from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.detection.parts.dense_names import (
    block_tower,
    detectron2_trunk,
    level_strides,
    logits_without_background,
    mmdet_trunk,
    sequential_tower,
    torchvision_trunk,
)
from zoo.models.detection.parts.mmdet import mmdet_preprocessing
from zoo.models.detection.parts.names import detectron2_body
from zoo.models.detection.parts.sources import detectron2_map, torchvision_maps
from zoo.ops.anchors import Anchors
from zoo.weights.maps import BATCH_COUNTERS, biased_conv


def torchvision(model: Any, *, old: bool) -> tuple[Rule, ...]:
    """Rules for `RetinaNet`.

    Args:
        model: The model.
        old: Whether the names are those of files from before torchvision 0.13.
    """
    rules = list(torchvision_trunk(model, old=old))
    for tower, ours in (("classification_head", "class_tower"), ("regression_head", "box_tower")):
        theirs, ours = f"head.{tower}.conv", f"head/{ours}"
        if old:
            rules += sequential_tower(theirs, ours, model.num_convs, 2)
        else:
            rules += block_tower(theirs, ours, "0", "1")
    anchors = Anchors(**model.anchor_fields).num_per_cell
    return (
        *rules,
        *logits_without_background("head.classification_head.cls_logits", "head/logits", anchors),
        *biased_conv("head.regression_head.bbox_reg", "head/deltas"),
    )


def detectron2(model: Any) -> tuple[Rule, ...]:
    """Rules for `RetinaNet`."""
    step = 3 if model.head_norm else 2
    return (
        *detectron2_trunk(model),
        *sequential_tower("head.cls_subnet", "head/class_tower", model.num_convs, step),
        *sequential_tower("head.bbox_subnet", "head/box_tower", model.num_convs, step),
        *biased_conv("head.cls_score", "head/logits"),
        *biased_conv("head.bbox_pred", "head/deltas"),
    )


def mmdet(model: Any) -> tuple[Rule, ...]:
    """Rules for `RetinaNet`."""
    return (
        *mmdet_trunk(model),
        *block_tower("bbox_head.cls_convs", "head/class_tower", "conv", "gn"),
        *block_tower("bbox_head.reg_convs", "head/box_tower", "conv", "gn"),
        *biased_conv("bbox_head.retina_cls", "head/logits"),
        *biased_conv("bbox_head.retina_reg", "head/deltas"),
    )


def _anchors(model: Any, order: str) -> dict[str, Any]:
    """The anchors of detectron2's and mmdet's models: sizes with fractions, nominal strides."""
    strides = level_strides(model)
    sizes = tuple(tuple(4 * stride * 2 ** (k / 3) for k in range(3)) for stride in strides)
    return {"sizes": sizes, "ratios": (0.5, 1.0, 2.0), "strides": strides, "order": order}


def _detectron2_fields(model: Any) -> dict[str, Any]:
    fields = {
        "anchor_fields": _anchors(model, "size"),
        "decoding_fields": {
            "most": 100,
            "clip_first": False,
            "drop_empty": True,
            **model.decoding_fields,
        },
    }
    if getattr(detectron2_body(model), "stride_in_1x1", False):
        fields["backbone_fields"] = {**model.backbone_fields, "stride_in_1x1": True}
    return fields


def _mmdet_fields(model: Any) -> dict[str, Any]:
    return {
        "extra_relu": False,
        "anchor_fields": _anchors(model, "ratio"),
        "decoding_fields": {"most": 100, "drop_empty": True, **model.decoding_fields},
    }


NAMES = (
    *torchvision_maps(torchvision),
    detectron2_map(detectron2, _detectron2_fields),
    NameMap(
        "mmdet",
        mmdet,
        BATCH_COUNTERS,
        fields=_mmdet_fields,
        preprocessing=mmdet_preprocessing,
    ),
)
