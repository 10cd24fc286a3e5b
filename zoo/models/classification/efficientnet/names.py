"""Names of timm, torchvision and efficientnet_pytorch for EfficientNet.

timm's files whose names begin with ``tf_`` hold weights that TensorFlow trained, for another
padding and epsilon. Nothing in such a file says so: load it with ``source="timm_tf"``. All files of
efficientnet_pytorch (and efficientnet_lite_pytorch) hold such weights.
"""

import dataclasses
import re
from typing import Any

from zoo.family import NameMap, Rule
from zoo.types import Preprocessing
from zoo.weights.maps import BATCH_COUNTERS, batch_norm, conv, dense, pointwise

_TENSORFLOW = {"padding": "same", "norm_epsilon": 1e-3}
# Side of the images, by blocks of the second stage and features of the last one.
_TENSORFLOW_SIDES = {
    (2, 320): 224,
    (3, 320): 240,
    (3, 352): 260,
    (3, 384): 300,
    (4, 448): 380,
    (5, 512): 456,
    (6, 576): 528,
    (7, 640): 600,
}
# torchvision's first weights: side of the crop, and of the image before it.
_TORCHVISION_SIZES = (
    *((224, 256), (240, 256), (288, 288), (300, 320)),
    *((380, 384), (456, 456), (528, 528), (600, 600)),
)


def timm(model: Any) -> tuple[Rule, ...]:
    """Rules for `EfficientNet`."""
    rules: list[Rule] = []
    for i, expansion in enumerate(model.expansions):
        theirs, ours = f"blocks.{i}.{{j}}", f"stages_{i}_{{j}}"
        parts = {"conv_pw": "expand", "conv_dw": "depthwise", "conv_pwl": "project"}
        if expansion == 1:
            parts = {"conv_dw": "depthwise", "conv_pw": "project"}
        for k, (name, part) in enumerate(parts.items(), start=1):
            rules += conv(f"{theirs}.{name}", f"{ours}/{part}_conv")
            rules += batch_norm(f"{theirs}.bn{k}", f"{ours}/{part}_norm")
        rules += pointwise(f"{theirs}.se.conv_reduce", f"{ours}/squeeze/reduce")
        rules += pointwise(f"{theirs}.se.conv_expand", f"{ours}/squeeze/expand")
    return (
        *conv("conv_stem", "stem_conv"),
        *batch_norm("bn1", "stem_norm"),
        *rules,
        *conv("conv_head", "last_conv"),
        *batch_norm("bn2", "last_norm"),
        *dense("classifier", "head"),
    )


def torchvision(model: Any) -> tuple[Rule, ...]:
    """Rules for `EfficientNet`; the layers of a block are numbered, whichever it has."""

    def layer(theirs: str, ours: str) -> tuple[Rule, ...]:
        return (
            *conv(f"features.{theirs}.0", f"{ours}_conv"),
            *batch_norm(f"features.{theirs}.1", f"{ours}_norm"),
        )

    rules: list[Rule] = []
    for i, expansion in enumerate(model.expansions):
        parts = ["expand", "depthwise", "squeeze", "project"]
        for k, part in enumerate(parts[expansion == 1 :]):
            theirs, ours = f"{i + 1}.{{j}}.block.{k}", f"stages_{i}_{{j}}/{part}"
            if part == "squeeze":
                rules += pointwise(f"features.{theirs}.fc1", f"{ours}/reduce")
                rules += pointwise(f"features.{theirs}.fc2", f"{ours}/expand")
            else:
                rules += layer(theirs, ours)
    return (
        *layer("0", "stem"),
        *rules,
        *layer(str(len(model.expansions) + 1), "last"),
        *dense("classifier.1", "head"),
    )


def efficientnet_pytorch(model: Any) -> tuple[Rule, ...]:
    """Rules for `EfficientNet`; blocks are numbered through all stages."""
    rules: list[Rule] = []
    places = [(i, j) for i, depth in enumerate(model.num_blocks) for j in range(depth)]
    for count, (i, j) in enumerate(places):
        theirs, ours = f"_blocks.{count}", f"stages_{i}_{j}"
        for k, part in enumerate(("expand", "depthwise", "project")):
            rules += conv(f"{theirs}._{part}_conv", f"{ours}/{part}_conv")
            rules += batch_norm(f"{theirs}._bn{k}", f"{ours}/{part}_norm")
        rules += pointwise(f"{theirs}._se_reduce", f"{ours}/squeeze/reduce")
        rules += pointwise(f"{theirs}._se_expand", f"{ours}/squeeze/expand")
    return (
        *conv("_conv_stem", "stem_conv"),
        *batch_norm("_bn0", "stem_norm"),
        *rules,
        *conv("_conv_head", "last_conv"),
        *batch_norm("_bn1", "last_norm"),
        *dense("_fc", "head"),
    )


def _torchvision_fields(model: Any) -> dict[str, float]:
    """B5 to B7 have TensorFlow's epsilon; they are those with three blocks or more at first."""
    return {"norm_epsilon": 1e-3 if model.num_blocks[0] >= 3 else 1e-5}


def _torchvision_preprocessing(model: Any, file: str) -> Preprocessing | None:
    """The transforms of torchvision's weights, if the file has the name of one of them."""
    del model
    if "efficientnet_b1-c35c1473" in file:  # version 2
        return Preprocessing((240, 240), interpolation="bilinear", crop_fraction=240 / 255)
    if not (match := re.search(r"efficientnet_b([0-7])", file)):
        return None
    side, resized = _TORCHVISION_SIZES[int(match[1])]
    return Preprocessing((side, side), crop_fraction=side / resized)


def _tensorflow_preprocessing(model: Any, file: str) -> Preprocessing:
    """The side that a model was made for, after a crop of 16 px on each side.

    Lite takes (pixel - 127) / 128, from 0..255.
    """
    del file
    side = _TENSORFLOW_SIDES.get((model.num_blocks[1], model.stage_dims[-1]), 224)
    how = Preprocessing((side, side), crop_fraction=side / (side + 32))
    if model.squeeze:
        return how
    return dataclasses.replace(how, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)


NAMES = (
    NameMap("timm", timm, BATCH_COUNTERS),
    NameMap("timm_tf", timm, BATCH_COUNTERS, _TENSORFLOW, preprocessing=_tensorflow_preprocessing),
    NameMap(
        "torchvision",
        torchvision,
        BATCH_COUNTERS,
        _torchvision_fields,
        preprocessing=_torchvision_preprocessing,
        wrapped=True,
    ),
    NameMap(
        "efficientnet_pytorch",
        efficientnet_pytorch,
        BATCH_COUNTERS,
        _TENSORFLOW,
        preprocessing=_tensorflow_preprocessing,
    ),
)
