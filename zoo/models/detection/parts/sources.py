"""What follows from the source of a two-stage detector's file: fields and preprocessing."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.detection.parts.names import (
    IGNORED_BY_DETECTRON2,
    detectron2_body,
    nominal_strides,
)
from zoo.types import Preprocessing
from zoo.weights.maps import BATCH_COUNTERS

DETECTRON2_POOLING = {
    "sampling_ratio": 0,
    "aligned": True,
    "level_epsilon": 0.0,
    "ratio_epsilon": 1e-8,
}


def torchvision_fields(model: Any) -> dict[str, Any]:
    """The epsilon of the norms: none in the frozen ones of ResNets, else torch's."""
    body = model.make_body()
    frozen_resnet = hasattr(body, "stride_in_1x1") and body.norm == "frozen"
    return {"norm_epsilon": 0.0 if frozen_resnet else 1e-5}


def detectron2_fields(model: Any) -> dict[str, Any]:
    """The backbone, the anchors and the pooling of detectron2's models."""
    strides = nominal_strides(model)
    return {
        "anchor_fields": {
            **model.anchor_fields,
            "rounded": False,
            "order": "size",
            "strides": strides,
        },
        "proposal_fields": {"train_kept": 1000, "min_size": 0.0, **model.proposal_fields},
        **detectron2_pooled_fields(model),
    }


def detectron2_pooled_fields(model: Any) -> dict[str, Any]:
    """The backbone and the pooling of detectron2's models."""
    fields: dict[str, Any] = {"pooling_fields": {**DETECTRON2_POOLING, **model.pooling_fields}}
    if getattr(detectron2_body(model), "stride_in_1x1", False):
        fields["backbone_fields"] = {**model.backbone_fields, "stride_in_1x1": True}
    return fields


def detectron2_mask_fields(model: Any) -> dict[str, Any]:
    """As `detectron2_fields`, and how masks are decoded."""
    decoding = {"min_size": 0.0, **model.decoding_fields}
    return {**detectron2_fields(model), "decoding_fields": decoding, "paste": "centres"}


def detectron2_preprocessing(model: Any, file: str) -> Preprocessing:
    """Pixels of 0..255 less the mean if the backbone is the authors'; else as in torchvision."""
    how = Preprocessing((800, 1333), interpolation="bilinear")
    authors = getattr(detectron2_body(model), "stride_in_1x1", False)
    return dataclasses.replace(how, std=(1 / 255,) * 3) if authors else how


def torchvision_maps(rules: Callable[..., tuple[Rule, ...]]) -> tuple[NameMap, NameMap]:
    """The name maps of torchvision's files, from version 0.13 on and from before it.

    Args:
        rules: A function from a model, and ``old`` as in `torchvision_rcnn`, to its rules.
    """
    new, old = (
        NameMap("torchvision", partial(rules, old=old), BATCH_COUNTERS, fields=torchvision_fields)
        for old in (False, True)
    )
    return new, old


def detectron2_map(
    rules: Callable[[Any], tuple[Rule, ...]],
    fields: Callable[[Any], dict[str, Any]] = detectron2_fields,
) -> NameMap:
    """The name map of detectron2's files, with the rules and the implied fields of a family."""
    return NameMap(
        "detectron2",
        rules,
        {**BATCH_COUNTERS, **IGNORED_BY_DETECTRON2},
        fields=fields,
        preprocessing=detectron2_preprocessing,
    )
