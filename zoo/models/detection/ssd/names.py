"""torchvision's names for SSD and SSDLite.

Its logits have the background first, ours have it last. It keeps the VGG in two parts, each a
sequence of all layers, the second one with the convolutions after the VGG; and the first
convolution of a MobileNet's block whose map is used apart from the rest of the block.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from zoo.family import Layout, NameMap, Rule
from zoo.models.backbones import backbone_rules
from zoo.ops.priors import PriorBoxes
from zoo.weights.maps import BATCH_COUNTERS, CONV, batch_norm, biased_conv, conv, rule


def torchvision(model: Any) -> tuple[Rule, ...]:
    """Rules for `SSD`."""
    trunk = _lite_trunk(model) if model.lite else _vgg_trunk(model)
    return (*trunk, *_head(model))


def _head(model: Any) -> list[Rule]:
    rules: list[Rule] = []
    for i, count in enumerate(PriorBoxes(**model.prior_fields).num_per_cell):
        for part, name in (("classification", "logits"), ("regression", "deltas")):
            theirs = f"head.{part}_head.module_list.{i}"
            if model.lite:
                ours = f"head/{name}_{i}_depthwise"
                rules += conv(f"{theirs}.0.0", f"{ours}_conv")
                rules += batch_norm(f"{theirs}.0.1", f"{ours}_norm")
                theirs += ".1"
            ours = f"head/{name}_{i}"
            if name == "deltas":
                rules += biased_conv(theirs, ours)
            else:
                weight, bias = background_last(count)
                rules.append(rule(f"{theirs}.weight", f"{ours}/kernel", layout=weight))
                rules.append(rule(f"{theirs}.bias", f"{ours}/bias", layout=bias))
    return rules


def background_last(num_anchors: int) -> tuple[Layout, Layout]:
    """Layouts of the weight and bias of a convolution to the logits of all boxes of a cell."""

    def roll(x: Float[np.ndarray, "n *d"], shift: int) -> Float[np.ndarray, "n *d"]:
        columns = x.reshape(num_anchors, -1, *x.shape[1:])
        return np.roll(columns, shift, axis=1).reshape(x.shape)

    weight = Layout(lambda x: CONV.read(roll(x, -1)), lambda x: roll(CONV.write(x), 1))
    return weight, Layout(lambda x: (roll(x, -1),), lambda x: roll(x, 1))


def _vgg_trunk(model: Any) -> list[Rule]:
    """The numbers of the second part of the VGG begin with the pooling before its last stage."""
    body = model.make_body()
    rules: list[Rule] = []
    last = len(body.num_convs) - 1
    step = 2 if body.norm is None else 3
    for entry in backbone_rules(body, "torchvision", ""):
        theirs = entry.theirs
        if not theirs.startswith("features."):
            continue
        number, _, part = theirs.removeprefix("features.").partition(".")
        first = sum(step * depth + 1 for depth in body.num_convs[:last]) - 1
        if int(number) > first:
            theirs = f"extra.0.{int(number) - first}.{part}"
        rules.append(Rule(f"backbone.{theirs}", entry.ours, entry.layout))
    dense = f"backbone.extra.0.{step * body.num_convs[last] + 1}"
    rules.append(rule("backbone.scale_weight", "scale"))
    rules += biased_conv(f"{dense}.1", "dense_conv_0")
    rules += biased_conv(f"{dense}.3", "dense_conv_1")
    for k in range(len(model.extra_dims)):
        for j in range(2):
            rules += biased_conv(f"backbone.extra.{k + 1}.{2 * j}", f"extra_{k}_conv_{j}")
    return rules


def _lite_trunk(model: Any) -> list[Rule]:
    """The first part ends with the first convolution of the last block with a stride."""
    body = model.make_body()
    split = max(i for i, stride in enumerate(body.strides) if stride > 1) + 1
    rules: list[Rule] = []
    for entry in backbone_rules(body, "torchvision", ""):
        number, _, part = entry.theirs.removeprefix("features.").partition(".")
        if not number.isdecimal():
            continue
        block = int(number)
        if block < split:
            theirs = f"features.0.{block}.{part}"
        elif block == split:
            layer, _, rest = part.removeprefix("block.").partition(".")
            first = int(layer) == 0
            theirs = f"features.0.{block}.{rest}" if first else f"features.1.0.{layer}.{rest}"
        else:
            theirs = f"features.1.{block - split}.{part}"
        rules.append(Rule(f"backbone.{theirs}", entry.ours, entry.layout))
    for k in range(len(model.extra_dims)):
        for j in range(3):
            theirs = f"backbone.extra.{k}.{j}"
            rules += conv(f"{theirs}.0", f"extra_{k}_conv_{j}")
            rules += batch_norm(f"{theirs}.1", f"extra_{k}_norm_{j}")
    return rules


NAMES = (NameMap("torchvision", torchvision, BATCH_COUNTERS),)
