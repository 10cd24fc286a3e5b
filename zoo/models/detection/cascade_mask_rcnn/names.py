"""Names of detectron2 for Cascade R-CNN with masks."""

from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.detection.parts.names import IGNORED_BY_DETECTRON2, detectron2_cascade
from zoo.models.detection.parts.object_names import detectron2_mask
from zoo.models.detection.parts.sources import detectron2_mask_fields, detectron2_preprocessing
from zoo.weights.maps import BATCH_COUNTERS


def detectron2(model: Any) -> tuple[Rule, ...]:
    """`GeneralizedRCNN` with `CascadeROIHeads` and a `MaskRCNNConvUpsampleHead`."""
    return (*detectron2_cascade(model), *detectron2_mask(model))


NAMES = (
    NameMap(
        "detectron2",
        detectron2,
        {**BATCH_COUNTERS, **IGNORED_BY_DETECTRON2},
        fields=detectron2_mask_fields,
        preprocessing=detectron2_preprocessing,
    ),
)
