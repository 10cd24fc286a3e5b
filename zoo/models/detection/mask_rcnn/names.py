"""Names of torchvision and detectron2 for Mask R-CNN; `faster_rcnn.names` has the rest."""

from functools import partial
from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.detection.parts.names import (
    IGNORED_BY_DETECTRON2,
    detectron2_rcnn,
    torchvision_rcnn,
)
from zoo.models.detection.parts.object_names import detectron2_mask, torchvision_mask
from zoo.models.detection.parts.sources import (
    detectron2_mask_fields,
    detectron2_preprocessing,
    torchvision_fields,
)
from zoo.weights.maps import BATCH_COUNTERS


def torchvision(model: Any, *, old: bool) -> tuple[Rule, ...]:
    """`MaskRCNN`; `old` as in `torchvision_rcnn`."""
    return (*torchvision_rcnn(model, old=old), *torchvision_mask(model, old=old))


def detectron2(model: Any) -> tuple[Rule, ...]:
    """`GeneralizedRCNN` with a `MaskRCNNConvUpsampleHead`."""
    return (*detectron2_rcnn(model), *detectron2_mask(model))


NAMES = (
    *(
        NameMap(
            "torchvision",
            partial(torchvision, old=old),
            BATCH_COUNTERS,
            fields=torchvision_fields,
        )
        for old in (False, True)
    ),
    NameMap(
        "detectron2",
        detectron2,
        {**BATCH_COUNTERS, **IGNORED_BY_DETECTRON2},
        fields=detectron2_mask_fields,
        preprocessing=detectron2_preprocessing,
    ),
)
