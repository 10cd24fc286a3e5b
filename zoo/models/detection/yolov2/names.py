"""The order of darknet's files of YOLO v2."""

from typing import Any

from zoo.models.detection.parts.yolo_names import darknet_map, predictor_pieces
from zoo.weights.darknet_rules import Piece, conv_norm_pieces


def darknet_pieces(model: Any) -> tuple[Piece, ...]:
    """What follows the backbone."""
    names = [f"neck_{i}" for i in range(len(model.neck_dims))]
    names += ["passthrough", "merged"] if model.passthrough_dim else []
    convs = (piece for name in names for piece in conv_norm_pieces(name))
    return (*convs, *predictor_pieces("levels_0", len(model.anchor_fields["sizes"][0])))


NAMES = (darknet_map(darknet_pieces),)
