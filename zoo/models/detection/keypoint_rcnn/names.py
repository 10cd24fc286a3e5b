"""Names of torchvision and detectron2 for Keypoint R-CNN; `faster_rcnn.names` has the rest."""

from functools import partial
from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.detection.parts.names import (
    IGNORED_BY_DETECTRON2,
    detectron2_rcnn,
    torchvision_rcnn,
)
from zoo.models.detection.parts.object_names import detectron2_keypoints, torchvision_keypoints
from zoo.models.detection.parts.sources import (
    detectron2_fields,
    detectron2_preprocessing,
    torchvision_fields,
)
from zoo.weights.maps import BATCH_COUNTERS


def torchvision(model: Any, *, old: bool) -> tuple[Rule, ...]:
    """`KeypointRCNN`; `old` as in `torchvision_rcnn`."""
    return (*torchvision_rcnn(model, old=old), *torchvision_keypoints(model))


def detectron2(model: Any) -> tuple[Rule, ...]:
    """`GeneralizedRCNN` with a `KRCNNConvDeconvUpsampleHead`."""
    return (*detectron2_rcnn(model), *detectron2_keypoints(model))


def _detectron2_fields(model: Any) -> dict[str, Any]:
    """As for Faster R-CNN, but with more proposals in training."""
    fields = detectron2_fields(model)
    proposals = {**fields["proposal_fields"], "train_kept": 1500, **model.proposal_fields}
    decoding = {"min_size": 0.0, **model.decoding_fields}
    fields |= {"proposal_fields": proposals, "decoding_fields": decoding}
    return {**fields, "keypoint_score": "probability"}


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
        fields=_detectron2_fields,
        preprocessing=detectron2_preprocessing,
    ),
)
