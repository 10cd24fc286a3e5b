"""Other projects' names for the parts of dense detectors, and what follows from the source.

torchvision's logits also have a column for the background, which is never a positive example: its
parameters are not read, and are written so that its probability is almost 0.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from zoo.family import Layout, Rule
from zoo.models.backbones import backbone_rules
from zoo.models.detection.parts.names import detectron2_body
from zoo.models.detection.parts.trunk import trunk_strides
from zoo.weights.blocks import detectron2_fpn, mmdet_fpn, torchvision_fpn
from zoo.weights.maps import CONV, batch_norm, biased_conv, rule

_NEVER = -20.0  # logit of the background's column in files that we write


def without_background(num_anchors: int, rest: float = _NEVER) -> tuple[Layout, Layout]:
    """Layouts of the weight and bias of a convolution to the logits of all anchors of a cell.

    Args:
        num_anchors: Anchors of a cell.
        rest: The bias of the background that is written.
    """

    def read(x: Float[np.ndarray, "n *d"]) -> Float[np.ndarray, "rows *d"]:
        shape = x.shape[1:]
        return x.reshape(num_anchors, -1, *shape)[:, 1:].reshape(-1, *shape)

    def write(x: Float[np.ndarray, "rows *d"], value: float) -> Float[np.ndarray, "n *d"]:
        shape = x.shape[1:]
        columns = x.reshape(num_anchors, -1, *shape)
        first = np.full((num_anchors, 1, *shape), value, x.dtype)
        return np.concatenate([first, columns], axis=1).reshape(-1, *shape)

    weight = Layout(lambda x: CONV.read(read(x)), lambda x: write(CONV.write(x), 0.0))
    bias = Layout(lambda x: (read(x),), lambda x: write(x, rest))
    return weight, bias


def logits_without_background(theirs: str, ours: str, num_anchors: int) -> tuple[Rule, ...]:
    """Rules for torchvision's convolution to logits; see `without_background`."""
    weight, bias = without_background(num_anchors)
    return (
        rule(f"{theirs}.weight", f"{ours}/kernel", layout=weight),
        rule(f"{theirs}.bias", f"{ours}/bias", layout=bias),
    )


def sequential_tower(theirs: str, ours: str, num_convs: int, step: int) -> list[Rule]:
    """Rules for a tower that is a torch `Sequential` of single layers.

    Args:
        theirs: Its path.
        ours: The path of our `Tower`.
        num_convs: Number of convolutions.
        step: Number of layers for each: 2 with a ReLU, 3 with a norm and a ReLU.
    """
    rules: list[Rule] = []
    for i in range(num_convs):
        rules += biased_conv(f"{theirs}.{step * i}", f"{ours}/conv_{i}")
        if step == 3:
            rules += batch_norm(f"{theirs}.{step * i + 1}", f"{ours}/norm_{i}")
    return rules


def block_tower(theirs: str, ours: str, conv: str, norm: str) -> tuple[Rule, ...]:
    """Rules for a tower whose layers are blocks of a convolution and a norm.

    Args:
        theirs: The path of the blocks.
        ours: The path of our `Tower`.
        conv: Their name of a block's convolution.
        norm: Their name of its norm.
    """
    return (
        *biased_conv(f"{theirs}.{{i}}.{conv}", f"{ours}/conv_{{i}}"),
        *batch_norm(f"{theirs}.{{i}}.{norm}", f"{ours}/norm_{{i}}"),
    )


def torchvision_trunk(model: Any, *, old: bool = False) -> tuple[Rule, ...]:
    """Rules for a backbone with a `FeaturePyramidNetwork`.

    Args:
        model: A model with a `PyramidTrunk`.
        old: Whether the names are those of files from before torchvision 0.13.
    """
    return (
        *backbone_rules(model.make_body(), "torchvision", "backbone.body."),
        *torchvision_fpn("backbone.fpn", "pyramid", old=old),
    )


def detectron2_trunk(model: Any) -> tuple[Rule, ...]:
    """Rules for a `ResNet` with detectron2's `FPN`."""
    finest = trunk_strides(model.make_body(), model.finest_stride, 1)[0]
    return (
        *backbone_rules(detectron2_body(model), "detectron2", "backbone.bottom_up."),
        *detectron2_fpn("backbone", "pyramid", first=finest.bit_length() - 1),
    )


def mmdet_trunk(model: Any) -> tuple[Rule, ...]:
    """Rules for a `ResNet` with mmdet's `FPN`."""
    body = model.make_body()
    levels = [stride for stride in body.feature_strides if stride >= model.finest_stride]
    return (
        *backbone_rules(body, "mmdet", "backbone."),
        *mmdet_fpn("neck", "pyramid", levels=len(levels)),
    )


def level_strides(model: Any) -> tuple[int, ...]:
    """Nominal strides of the levels of a model with a `PyramidTrunk`."""
    levels = len(model.anchor_fields["sizes"])
    return trunk_strides(model.make_body(), model.finest_stride, levels)
