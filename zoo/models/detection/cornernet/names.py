"""Names of CornerNet's authors and of mmdet."""

from typing import Any

from zoo.family import NameMap, Rule
from zoo.models.detection.parts.hourglass_names import (
    authors_hourglass,
    conv_norm,
    map_head,
    mmdet_hourglass,
)
from zoo.types import Preprocessing
from zoo.weights.maps import BATCH_COUNTERS, batch_norm, biased_conv, conv

_KINDS = {"tl": "top_left_{s}", "br": "bottom_right_{s}"}
_PARTS = {"pool_0": "direction1_conv", "pool_1": "direction2_conv", "pooled": "aftpool_conv"}


def authors(model: Any) -> tuple[Rule, ...]:
    """``CornerNet_500000.pkl``, whose names begin with ``module.``."""
    rules = list(authors_hourglass(model.make_trunk()))
    for kind, ours in _KINDS.items():
        theirs, pooling = f"{kind}_cnvs.{{s}}", f"{ours}/pooling"
        for i in range(2):
            rules += conv_norm(f"{theirs}.p{i + 1}_conv1.", f"{pooling}/pool_{i}")
        for their_conv, their_norm, part in (
            ("p_conv1", "p_bn1", "pooled"),
            ("conv1", "bn1", "shortcut"),
        ):
            rules += conv(f"{theirs}.{their_conv}", f"{pooling}/{part}/conv")
            rules += batch_norm(f"{theirs}.{their_norm}", f"{pooling}/{part}/norm")
        rules += conv_norm(f"{theirs}.conv2.", f"{pooling}/out")
        for part, head in (("heats", "heat"), ("tags", "tag"), ("regrs", "offset")):
            rules += map_head(f"{kind}_{part}.{{s}}", f"{ours}/{head}")
    return tuple(rules)


def mmdet(model: Any) -> tuple[Rule, ...]:
    """The `CornerNet` of mmdet."""
    rules = list(mmdet_hourglass(model.make_trunk()))
    for kind, ours in _KINDS.items():
        theirs = f"bbox_head.{kind}_pool.{{s}}"
        for part, name in {**_PARTS, "shortcut": "conv1", "out": "conv2"}.items():
            rules += conv_norm(f"{theirs}.{name}.", f"{ours}/pooling/{part}")
        for part, head in (("heat", "heat"), ("emb", "tag"), ("off", "offset")):
            for i, layer in enumerate(("hidden", "out")):
                name = f"bbox_head.{kind}_{part}.{{s}}.{i}.conv"
                rules += biased_conv(name, f"{ours}/{head}/{layer}")
    return tuple(rules)


def _mmdet_preprocessing(model: Any, file: str) -> Preprocessing:
    return Preprocessing((480, 640), interpolation="bilinear")


NAMES = (
    NameMap("cornernet", authors, BATCH_COUNTERS),
    NameMap("mmdet", mmdet, BATCH_COUNTERS, preprocessing=_mmdet_preprocessing),
)
