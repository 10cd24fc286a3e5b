"""Names of detectron2 and mmdet for Cascade R-CNN.

mmdet divides the deltas of its third stage by 0.033 and 0.067, and not by a thirtieth and a
fifteenth, and takes the softmax of the mean of the stages' logits: the model of such a file gets
fields for both.
"""

from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.detection.parts.mmdet import (
    mmdet_dense,
    mmdet_fields,
    mmdet_preprocessing,
    mmdet_proposals,
)
from zoo.models.detection.parts.names import detectron2_cascade
from zoo.models.detection.parts.sources import (
    detectron2_map,
)
from zoo.weights.maps import BATCH_COUNTERS, dense

_CODER_WEIGHTS = (
    (10.0, 10.0, 5.0, 5.0),
    (20.0, 20.0, 10.0, 10.0),
    (1 / 0.033, 1 / 0.033, 1 / 0.067, 1 / 0.067),
)


def mmdet(model: Any) -> tuple[Rule, ...]:
    """Rules for a `CascadeRCNN`."""
    rules = list(mmdet_proposals(model))
    for k in range(1 + len(model.ious)):
        theirs, ours = f"roi_head.bbox_head.{k}", f"cascade_{k}"
        rules += mmdet_dense(model, theirs, ours)
        rules += dense(f"{theirs}.fc_cls", f"{ours}/predictor/logits")
        rules += dense(f"{theirs}.fc_reg", f"{ours}/predictor/deltas")
    return tuple(rules)


def _mmdet_fields(model: Any) -> dict[str, Any]:
    return {**mmdet_fields(model), "coder_weights": _CODER_WEIGHTS, "mean_of": "logits"}


NAMES = (
    detectron2_map(detectron2_cascade),
    NameMap(
        "mmdet",
        mmdet,
        BATCH_COUNTERS,
        fields=_mmdet_fields,
        preprocessing=mmdet_preprocessing,
    ),
)
