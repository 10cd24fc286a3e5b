"""Names of torchvision, detectron2 and mmdet for Faster R-CNN.

torchvision's files from before its version 0.13 have other names for the convolutions of the
pyramid and of the proposals. Its first ResNet was trained with frozen norms without an epsilon.

detectron2's files of ResNet-50 and 101 started from the weights of the paper's authors: they take
pixels of 0..255 in the order BGR, and have the stride in other convolutions. All that follows from
the source: `zoo.load` gives the model these fields, and we always take RGB images.
"""

from zoo.family import NameMap
from zoo.models.detection.parts.mmdet import mmdet_fields, mmdet_preprocessing, mmdet_rcnn
from zoo.models.detection.parts.names import (
    detectron2_rcnn,
    torchvision_rcnn,
)
from zoo.models.detection.parts.sources import detectron2_map, torchvision_maps
from zoo.weights.maps import BATCH_COUNTERS

NAMES = (
    *torchvision_maps(torchvision_rcnn),
    detectron2_map(detectron2_rcnn),
    NameMap(
        "mmdet",
        mmdet_rcnn,
        BATCH_COUNTERS,
        fields=mmdet_fields,
        preprocessing=mmdet_preprocessing,
    ),
)
