"""What follows from the source of a two-stage detector's file: fields and preprocessing."""

import dataclasses
from typing import Any

from zoo.models.detection.parts.names import detectron2_body, nominal_strides
from zoo.types import Preprocessing

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
    fields: dict[str, Any] = {
        "anchor_fields": {
            **model.anchor_fields,
            "rounded": False,
            "order": "size",
            "strides": strides,
        },
        "proposal_fields": {"train_kept": 1000, "min_size": 0.0, **model.proposal_fields},
        "pooling_fields": {**DETECTRON2_POOLING, **model.pooling_fields},
    }
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
