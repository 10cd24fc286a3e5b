"""Names of detectron2 and mmdet for TridentNet: those of Faster R-CNN on the same map.

mmdet pads images to multiples of 32 pixels, which changes the map at the borders of others.
"""

from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.backbones import backbone_rules
from zoo.models.detection.parts.mmdet import mmdet_fields, mmdet_preprocessing, mmdet_rcnn
from zoo.models.detection.parts.names import detectron2_rcnn
from zoo.models.detection.parts.sources import detectron2_map
from zoo.weights.maps import BATCH_COUNTERS


def detectron2(model: Any) -> tuple[Rule, ...]:
    """`GeneralizedRCNN` with `build_trident_resnet_backbone` and `TridentRes5ROIHeads`."""
    branches = backbone_rules(model.make_net(), "detectron2", "backbone.", "trident")
    return (*detectron2_rcnn(model), *branches)


def mmdet(model: Any) -> tuple[Rule, ...]:
    """`TridentFasterRCNN`."""
    return (*mmdet_rcnn(model), *backbone_rules(model.make_net(), "mmdet", "backbone.", "trident"))


NAMES = (
    detectron2_map(detectron2),
    NameMap("mmdet", mmdet, BATCH_COUNTERS, fields=mmdet_fields, preprocessing=mmdet_preprocessing),
)
