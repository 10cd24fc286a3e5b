"""Names of the authors and of mmdet for CenterNet."""

from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.backbones import backbone_rules
from zoo.models.detection.parts.centre_names import AUTHORS, conv_rules, deconv_rule, head_rules
from zoo.types import Preprocessing
from zoo.weights.maps import BATCH_COUNTERS, batch_norm

_HEADS = {"heat_logits": "heatmap_head", "sizes": "wh_head", "offsets": "offset_head"}


def mmdet(model: Any) -> tuple[Rule, ...]:
    """Rules for `CenterNet` with a `CTResNetNeck`; none for other trunks."""
    if model.trunk != "deconv":
        return ()
    rules = list(backbone_rules(model.make_body(), "mmdet", "backbone."))
    for i in range(len(model.make_trunk().dims)):
        theirs = f"neck.deconv_layers.{2 * i}"
        rules += conv_rules(f"{theirs}.conv", f"up_{i}/conv", "conv_offset")
        rules += batch_norm(f"{theirs}.bn", f"up_{i}/norm")
        theirs = f"neck.deconv_layers.{2 * i + 1}"
        rules += deconv_rule(f"{theirs}.conv", f"up_{i}_deconv")
        rules += batch_norm(f"{theirs}.bn", f"up_{i}_norm")
    return (*rules, *head_rules(model, "bbox_head.{}", _HEADS))


def _mmdet_fields(model: Any) -> dict[str, Any]:
    """Its convolutions before norms have no bias."""
    return {"trunk_fields": {"bias": False, **model.trunk_fields}}


def _mmdet_preprocessing(model: Any, file: str) -> Preprocessing:
    """ImageNet's statistics."""
    return Preprocessing((480, 640), interpolation="bilinear")


NAMES = (
    AUTHORS,
    NameMap(
        "mmdet",
        mmdet,
        BATCH_COUNTERS,
        fields=_mmdet_fields,
        preprocessing=_mmdet_preprocessing,
    ),
)
