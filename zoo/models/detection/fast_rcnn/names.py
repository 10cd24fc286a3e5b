"""Names of detectron2 for Fast R-CNN on a pyramid: see `zoo.models.detection.faster_rcnn.names`."""

from typing import Any

from zoo.family import Rule
from zoo.models.detection.parts.names import detectron2_box, detectron2_maps
from zoo.models.detection.parts.sources import detectron2_map, detectron2_pooled_fields


def detectron2(model: Any) -> tuple[Rule, ...]:
    """`GeneralizedRCNN` with `PrecomputedProposals`; none for a model without a pyramid."""
    if model.neck == "none":
        return ()
    return (*detectron2_maps(model), *detectron2_box(model))


def _fields(model: Any) -> dict[str, Any]:
    """The backbone, the pooling and the decoding of detectron2's models."""
    decoding = {"min_size": 0.0, **model.decoding_fields}
    return {**detectron2_pooled_fields(model), "decoding_fields": decoding}


NAMES = (detectron2_map(detectron2, _fields),)
