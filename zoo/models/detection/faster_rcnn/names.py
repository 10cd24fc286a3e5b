"""Names of torchvision and detectron2 for Faster R-CNN.

torchvision's files from before its version 0.13 have other names for the convolutions of the
pyramid and of the proposals. Its first ResNet was trained with frozen norms without an epsilon.

detectron2's files of ResNet-50 and 101 started from the weights of the paper's authors: they take
pixels of 0..255 in the order BGR, and have the stride in other convolutions. All that follows from
the source: `zoo.load` gives the model these fields, and we always take RGB images.
"""

import dataclasses
from functools import partial
from typing import Any

from zoo.family import NameMap
from zoo.models.detection.parts.names import (
    IGNORED_BY_DETECTRON2,
    detectron2_body,
    detectron2_rcnn,
    torchvision_rcnn,
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
    """The backbone, the anchors and the pooling of detectron2's models with a pyramid."""
    strides = tuple(4 * 2**i for i in range(len(model.anchor_fields["sizes"])))
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


def detectron2_preprocessing(model: Any, file: str) -> Preprocessing:
    """Pixels of 0..255 less the mean if the backbone is the authors'; else as in torchvision."""
    how = Preprocessing((800, 1333), interpolation="bilinear")
    authors = getattr(detectron2_body(model), "stride_in_1x1", False)
    return dataclasses.replace(how, std=(1 / 255,) * 3) if authors else how


NAMES = (
    *(
        NameMap(
            "torchvision",
            partial(torchvision_rcnn, old=old),
            BATCH_COUNTERS,
            fields=torchvision_fields,
        )
        for old in (False, True)
    ),
    NameMap(
        "detectron2",
        detectron2_rcnn,
        {**BATCH_COUNTERS, **IGNORED_BY_DETECTRON2},
        fields=detectron2_fields,
        preprocessing=detectron2_preprocessing,
    ),
)
