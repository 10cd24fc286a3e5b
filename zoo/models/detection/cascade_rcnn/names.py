"""Names of detectron2 and mmdet for Cascade R-CNN.

mmdet divides the deltas of its third stage by 0.033 and 0.067, and not by a thirtieth and a
fifteenth: the parameters of the last layer are scaled when they are read. It takes the softmax of
the mean of the stages' logits; we take the mean of their probabilities, as detectron2 and the paper
do, with a file of mmdet as well.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from zoo.family import Layout, NameMap, Rule
from zoo.models.detection.parts.mmdet import (
    mmdet_dense,
    mmdet_fields,
    mmdet_preprocessing,
    mmdet_proposals,
)
from zoo.models.detection.parts.names import IGNORED_BY_DETECTRON2, detectron2_cascade
from zoo.models.detection.parts.sources import detectron2_fields, detectron2_preprocessing
from zoo.weights.maps import BATCH_COUNTERS, dense, rule

# mmdet's standard deviations of dx, dy, dw, dh in each stage, times our weights.
_SCALES = (
    np.ones(4, np.float32),
    np.ones(4, np.float32),
    np.array([0.033, 0.033, 0.067, 0.067], np.float32) * np.array([30, 30, 15, 15], np.float32),
)


def _scaled(scale: Float[np.ndarray, "4"]) -> tuple[Layout, Layout]:
    """Of the kernel and of the bias of their last layer."""
    return (
        Layout(lambda x: (x.T * scale,), lambda x: (x / scale).T),
        Layout(lambda x: (x * scale,), lambda x: x / scale),
    )


def mmdet(model: Any) -> tuple[Rule, ...]:
    """Rules for a `CascadeRCNN`."""
    rules = list(mmdet_proposals(model))
    for k in range(1 + len(model.ious)):
        theirs, ours = f"roi_head.bbox_head.{k}", f"cascade_{k}"
        deltas = f"{ours}/predictor/deltas"
        kernel, bias = _scaled(_SCALES[k])
        rules += mmdet_dense(model, theirs, ours)
        rules += dense(f"{theirs}.fc_cls", f"{ours}/predictor/logits")
        rules.append(rule(f"{theirs}.fc_reg.weight", f"{deltas}/kernel", layout=kernel))
        rules.append(rule(f"{theirs}.fc_reg.bias", f"{deltas}/bias", layout=bias))
    return tuple(rules)


NAMES = (
    NameMap(
        "detectron2",
        detectron2_cascade,
        {**BATCH_COUNTERS, **IGNORED_BY_DETECTRON2},
        fields=detectron2_fields,
        preprocessing=detectron2_preprocessing,
    ),
    NameMap(
        "mmdet",
        mmdet,
        BATCH_COUNTERS,
        fields=mmdet_fields,
        preprocessing=mmdet_preprocessing,
    ),
)
