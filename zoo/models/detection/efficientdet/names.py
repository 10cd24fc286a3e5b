"""effdet's names for EfficientDet, with timm's in the backbone.

effdet's deltas are dy, dx, dh, dw; ours are dx, dy, dw, dh: the last convolution is reordered.
Files of models with ``tf_`` in their names have biases that the others do not have.
"""

from typing import Any

import numpy as np
from jaxtyping import Shaped

from zoo.family import Layout, NameMap, Rule
from zoo.models.backbones import backbone_rules
from zoo.weights.maps import BATCH_COUNTERS, CONV, batch_norm, biased_conv, conv, rule


def _exchange(x: Shaped[np.ndarray, "n *d"]) -> Shaped[np.ndarray, "n *d"]:
    """Rows of y and x, and of height and width, in the other order."""
    return x.reshape(-1, 4, *x.shape[1:])[:, [1, 0, 3, 2]].reshape(x.shape)


_DELTAS = Layout(lambda x: CONV.read(_exchange(x)), lambda x: _exchange(CONV.write(x)))
_DELTAS_BIAS = Layout(lambda x: (_exchange(x),), _exchange)


def _separable(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules for `SeparableConv2d` without its norm."""
    return (
        *conv(f"{theirs}.conv_dw", f"{ours}/depthwise"),
        *biased_conv(f"{theirs}.conv_pw", f"{ours}/pointwise"),
    )


def _resample(theirs: str, ours: str, number: str) -> tuple[Rule, ...]:
    """Rules for the convolution and the norm of a `ResampleFeatureMap`."""
    return (
        *biased_conv(f"{theirs}.conv.conv", f"{ours}_conv_{number}"),
        *batch_norm(f"{theirs}.conv.bn", f"{ours}_norm_{number}"),
    )


def effdet(model: Any) -> tuple[Rule, ...]:
    """Rules for `EfficientDet`."""
    node, our_node = "fpn.cell.{i}.fnode.{j}", "pyramid/cell_{i}_node_{j}"
    body = model.make_body()
    used = len(model.level_strides(body)) - model.num_extra
    rules = [
        *backbone_rules(body, "timm", "backbone."),
        *_resample(f"fpn.resample.{used}", "pyramid/extra", "0"),
        *_resample(f"{node}.combine.resample.{{k}}", f"{our_node}/resample", "{k}"),
        rule(f"{node}.combine.edge_weights", f"{our_node}/weights"),
        *_separable(f"{node}.after_combine.conv", f"{our_node}/conv"),
        *batch_norm(f"{node}.after_combine.conv.bn", f"{our_node}/norm"),
    ]
    for theirs, ours in (("class_net", "head/class_tower"), ("box_net", "head/box_tower")):
        rules += _separable(f"{theirs}.conv_rep.{{i}}", f"{ours}/conv_{{i}}")
        rules += batch_norm(f"{theirs}.bn_rep.{{i}}.{{j}}.bn", f"{ours}/norm_{{i}}_{{j}}")
    return (
        *rules,
        *_separable("class_net.predict", "head/logits"),
        *conv("box_net.predict.conv_dw", "head/deltas/depthwise"),
        rule("box_net.predict.conv_pw.weight", "head/deltas/pointwise/kernel", layout=_DELTAS),
        rule("box_net.predict.conv_pw.bias", "head/deltas/pointwise/bias", layout=_DELTAS_BIAS),
    )


NAMES = (NameMap("effdet", effdet, BATCH_COUNTERS),)
