"""Names of torchvision and detectron2 for Keypoint R-CNN; `faster_rcnn.names` has the rest."""

from typing import Any

from zoo.family import Rule
from zoo.models.detection.parts.names import (
    detectron2_rcnn,
    torchvision_rcnn,
)
from zoo.models.detection.parts.object_names import detectron2_keypoints, torchvision_keypoints
from zoo.models.detection.parts.sources import (
    detectron2_fields,
    detectron2_map,
    torchvision_maps,
)


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
    *torchvision_maps(torchvision),
    detectron2_map(detectron2, _detectron2_fields),
)
