"""Names of mmdet for YOLO v3, and the order of darknet's files.

mmdet numbers levels from the coarsest on. Both have one convolution for all outputs of a level.
"""

import dataclasses
from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.backbones import backbone_rules
from zoo.models.detection.parts.yolo_names import darknet_map, predictor_pieces, predictor_rules
from zoo.types import Preprocessing
from zoo.weights.darknet_rules import Piece, conv_norm_pieces
from zoo.weights.maps import BATCH_COUNTERS, conv_norm

_PREPROCESSING = Preprocessing((608, 608), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear")


def mmdet(model: Any) -> tuple[Rule, ...]:
    """Rules for mmdet's `YOLOV3`."""
    rules = [*backbone_rules(model.make_body(), "mmdet", "backbone.")]
    last = len(model.neck_dims) - 1
    for i in range(last + 1):
        n = last - i
        for j in range(model.neck_convs[i]):
            rules += conv_norm(f"neck.detect{n + 1}.conv{j + 1}", f"neck/level_{i}_{j}")
        rules += conv_norm(f"neck.conv{n}", f"neck/lateral_{i}")
        rules += conv_norm(f"bbox_head.convs_bridge.{n}", f"bridges_{i}")
        count = len(model.anchor_fields["sizes"][i])
        rules += predictor_rules(f"bbox_head.convs_pred.{n}", f"levels_{i}", count)
    return tuple(rules)


def darknet_pieces(model: Any) -> tuple[Piece, ...]:
    """What follows the backbone: the levels, the coarsest first."""
    last = len(model.neck_dims) - 1
    pieces: list[Piece] = []
    for i in reversed(range(last + 1)):
        count = model.neck_convs[i]
        count += bool(i == last and model.pool_sizes)
        names = [f"neck/lateral_{i}"] if i < last else []
        names += [f"neck/level_{i}_{j}" for j in range(count)]
        for name in (*names, f"bridges_{i}"):
            pieces += conv_norm_pieces(name)
        pieces += predictor_pieces(f"levels_{i}", len(model.anchor_fields["sizes"][i]))
    return tuple(pieces)


def _mmdet_fields(model: Any) -> dict[str, Any]:
    """How mmdet decodes."""
    decoding = {"classes_first": True, "score_threshold": 0.05, **model.decoding_fields}
    return {"decoding_fields": decoding}


def _mmdet_preprocessing(model: Any, file: str) -> Preprocessing:
    """Images keep their aspect, are padded on the right and below, and have pixels of 0..1."""
    side = next((side for side in (320, 416) if f"-{side}_" in file), 608)
    return dataclasses.replace(_PREPROCESSING, size=(side, side))


NAMES = (
    NameMap(
        "mmdet", mmdet, BATCH_COUNTERS, fields=_mmdet_fields, preprocessing=_mmdet_preprocessing
    ),
    darknet_map(darknet_pieces),
)
