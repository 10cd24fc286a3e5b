"""Names of torchvision and detectron2 for Mask R-CNN; `faster_rcnn.names` has the rest."""

from typing import Any

from zoo.family import Rule
from zoo.models.detection.parts.names import (
    detectron2_rcnn,
    torchvision_rcnn,
)
from zoo.models.detection.parts.object_names import detectron2_mask, torchvision_mask
from zoo.models.detection.parts.sources import (
    detectron2_map,
    detectron2_mask_fields,
    torchvision_maps,
)


def torchvision(model: Any, *, old: bool) -> tuple[Rule, ...]:
    """`MaskRCNN`; `old` as in `torchvision_rcnn`."""
    return (*torchvision_rcnn(model, old=old), *torchvision_mask(model, old=old))


def detectron2(model: Any) -> tuple[Rule, ...]:
    """`GeneralizedRCNN` with a `MaskRCNNConvUpsampleHead`."""
    return (*detectron2_rcnn(model), *detectron2_mask(model))


NAMES = (
    *torchvision_maps(torchvision),
    detectron2_map(detectron2, detectron2_mask_fields),
)
