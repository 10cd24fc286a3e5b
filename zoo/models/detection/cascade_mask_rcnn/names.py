"""Names of detectron2 for Cascade R-CNN with masks."""

from typing import Any

from zoo.family import Rule
from zoo.models.detection.parts.names import detectron2_cascade
from zoo.models.detection.parts.object_names import detectron2_mask
from zoo.models.detection.parts.sources import (
    detectron2_map,
    detectron2_mask_fields,
)


def detectron2(model: Any) -> tuple[Rule, ...]:
    """`GeneralizedRCNN` with `CascadeROIHeads` and a `MaskRCNNConvUpsampleHead`."""
    return (*detectron2_cascade(model), *detectron2_mask(model))


NAMES = (detectron2_map(detectron2, detectron2_mask_fields),)
