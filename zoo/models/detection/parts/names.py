"""torchvision's and detectron2's names for the parts of two-stage detectors.

torchvision counts the background as class 0 and also regresses a box for it, which nothing uses;
ours is the last of the logits, as in detectron2, and has no box: these parameters are not read, and
are written as zeros.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from zoo.family import Layout, Rule
from zoo.models.backbones import backbone_rules
from zoo.weights.blocks import detectron2_fpn, torchvision_fpn
from zoo.weights.maps import batch_norm, biased_conv, dense, rule

IGNORED_BY_DETECTRON2 = {
    "*anchor_generator.cell_anchors*": "anchors follow from the model's fields",
    "pixel_mean": "the preprocessing has it",
    "pixel_std": "the preprocessing has it",
}

# Their rows, the background first; our columns, the background last.
_LOGITS = Layout(lambda x: (np.roll(x, -1, axis=0).T,), lambda x: np.roll(x.T, 1, axis=0))
_LOGITS_BIAS = Layout(lambda x: (np.roll(x, -1),), lambda x: np.roll(x, 1))


def _with_zeros(x: Shaped[np.ndarray, "n *d"]) -> Shaped[np.ndarray, "rows *d"]:
    """The rows of the background before those of the classes."""
    return np.concatenate([np.zeros((4, *x.shape[1:]), x.dtype), x])


# Their rows, four for the background first; our columns, without these.
_DELTAS = Layout(lambda x: (x[4:].T,), lambda x: _with_zeros(x.T))
_DELTAS_BIAS = Layout(lambda x: (x[4:],), _with_zeros)


def pooled_dense(size: int) -> Layout:
    """Their layer over ``[c, size, size]``; our dense kernel over ``[size, size, c]``."""

    def read(
        x: Float[np.ndarray, "d features"],
    ) -> tuple[Float[np.ndarray, "features d"]]:
        maps = x.reshape(len(x), -1, size, size)
        return (maps.transpose(2, 3, 1, 0).reshape(-1, len(x)),)

    def write(x: Float[np.ndarray, "features d"]) -> Float[np.ndarray, "d features"]:
        maps = x.reshape(size, size, -1, x.shape[1])
        return maps.transpose(3, 2, 0, 1).reshape(x.shape[1], -1)

    return Layout(read, write)


def torchvision_rpn(
    theirs: str = "rpn.head", ours: str = "rpn/head", *, old: bool = False
) -> tuple[Rule, ...]:
    """Rules for `RPNHead`; `ours` is an `RpnHead`.

    Args:
        theirs: Its path.
        ours: The path of ours.
        old: Whether the names are those of files from before torchvision 0.13.
    """
    conv, our_conv = (".conv", "/conv_0") if old else (".conv.{i}.0", "/conv_{i}")
    return (
        *biased_conv(theirs + conv, ours + our_conv),
        *biased_conv(f"{theirs}.cls_logits", f"{ours}/logits"),
        *biased_conv(f"{theirs}.bbox_pred", f"{ours}/deltas"),
    )


def torchvision_box(model: Any, theirs: str = "roi_heads", ours: str = "box") -> tuple[Rule, ...]:
    """Rules for `TwoMLPHead` or `FastRCNNConvFCHead`, and `FastRCNNPredictor`.

    Args:
        model: A model with `box_conv_dims`, `box_dims` and `pooling_fields`.
        theirs: The path of their heads.
        ours: The path of our `BoxBranch`.
    """
    count = len(model.box_conv_dims)
    names = [f"{theirs}.box_head.fc{6 + i}" for i in range(len(model.box_dims))]
    if count:
        names = [f"{theirs}.box_head.{count + 1 + 2 * i}" for i in range(len(model.box_dims))]
    return (
        *biased_conv(f"{theirs}.box_head.{{i}}.0", f"{ours}/head/conv_{{i}}"),
        *batch_norm(f"{theirs}.box_head.{{i}}.1", f"{ours}/head/norm_{{i}}"),
        *dense_layers(names, model, ours),
        *background_first(f"{theirs}.box_predictor", f"{ours}/predictor"),
    )


def background_first(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules for `FastRCNNPredictor`, or Detectron's outputs of a box head.

    Args:
        theirs: Its path.
        ours: The path of our `BoxPredictor`.
    """
    return (
        rule(f"{theirs}.cls_score.weight", f"{ours}/logits/kernel", layout=_LOGITS),
        rule(f"{theirs}.cls_score.bias", f"{ours}/logits/bias", layout=_LOGITS_BIAS),
        rule(f"{theirs}.bbox_pred.weight", f"{ours}/deltas/kernel", layout=_DELTAS),
        rule(f"{theirs}.bbox_pred.bias", f"{ours}/deltas/bias", layout=_DELTAS_BIAS),
    )


def torchvision_rcnn(model: Any, *, old: bool = False) -> tuple[Rule, ...]:
    """Rules for `FasterRCNN`, and for what Mask and Keypoint R-CNN share with it.

    Args:
        model: The model.
        old: Whether the names are those of files from before torchvision 0.13.
    """
    return (
        *backbone_rules(model.make_body(), "torchvision", "backbone.body."),
        *torchvision_fpn("backbone.fpn", "pyramid", old=old),
        *torchvision_rpn(old=old and model.rpn_convs == 1),
        *torchvision_box(model),
    )


def detectron2_rpn(
    theirs: str = "proposal_generator.rpn_head", ours: str = "rpn/head", *, num_convs: int = 1
) -> tuple[Rule, ...]:
    """Rules for `StandardRPNHead` with `num_convs` convolutions; `ours` is an `RpnHead`."""
    conv, our_conv = (".conv", "/conv_0") if num_convs == 1 else (".conv.conv{i}", "/conv_{i}")
    return (
        *biased_conv(theirs + conv, ours + our_conv),
        *biased_conv(f"{theirs}.objectness_logits", f"{ours}/logits"),
        *biased_conv(f"{theirs}.anchor_deltas", f"{ours}/deltas"),
    )


def detectron2_box(model: Any, stage: str = "", ours: str = "box") -> tuple[Rule, ...]:
    """Rules for `FastRCNNConvFCHead` and `FastRCNNOutputLayers`.

    Args:
        model: A model with `box_conv_dims`, `box_dims` and `pooling_fields`.
        stage: What follows the names of the two: ``.0`` for the first of a cascade.
        ours: The path of our `BoxBranch`.
    """
    head, predictor = (f"roi_heads.box_{part}{stage}" for part in ("head", "predictor"))
    rules: list[Rule] = []
    for i in range(len(model.box_conv_dims)):
        conv_name = f"{head}.conv{i + 1}"
        rules += biased_conv(conv_name, f"{ours}/head/conv_{i}")
        rules += batch_norm(f"{conv_name}.norm", f"{ours}/head/norm_{i}")
    names = [f"{head}.fc{i + 1}" for i in range(len(model.box_dims))]
    return (
        *rules,
        *dense_layers(names, model, ours),
        *dense(f"{predictor}.cls_score", f"{ours}/predictor/logits"),
        *dense(f"{predictor}.bbox_pred", f"{ours}/predictor/deltas"),
    )


def detectron2_maps(model: Any) -> tuple[Rule, ...]:
    """Rules for a backbone, with an FPN or without."""
    theirs = "backbone." if model.neck == "none" else "backbone.bottom_up."
    return (
        *backbone_rules(detectron2_body(model), "detectron2", theirs),
        *detectron2_fpn("backbone", "pyramid"),
    )


def detectron2_proposals(model: Any) -> tuple[Rule, ...]:
    """Rules for a backbone, with an FPN or without, and for what proposes regions."""
    return (*detectron2_maps(model), *detectron2_rpn(num_convs=model.rpn_convs))


def detectron2_rcnn(model: Any) -> tuple[Rule, ...]:
    """Rules for a `GeneralizedRCNN`, with an FPN or without; not for its masks and keypoints."""
    return (
        *detectron2_proposals(model),
        *detectron2_box(model),
        *backbone_rules(model.make_net(), "detectron2", "roi_heads.", "box/stage"),
    )


def detectron2_cascade(model: Any) -> tuple[Rule, ...]:
    """Rules for a `GeneralizedRCNN` with `CascadeROIHeads`; not for its masks."""
    stages = [detectron2_box(model, f".{k}", f"cascade_{k}") for k in range(1 + len(model.ious))]
    return (*detectron2_proposals(model), *(entry for rules in stages for entry in rules))


def detectron2_body(model: Any) -> Any:
    """The backbone as detectron2's files have it: that of the authors, unless a field says other.

    The paper's authors' ResNets, and the files of detectron2 that started from them, have the
    stride in a bottleneck's first convolution, and take pixels of 0..255 in the order BGR.
    """
    body = model.make_body()
    authors = getattr(body, "block", "") == "bottleneck" and body.num_groups == 1
    if authors and "stride_in_1x1" not in model.backbone_fields:
        return body.clone(stride_in_1x1=True)
    return body


def nominal_strides(model: Any) -> tuple[int, ...]:
    """Strides of the maps that have anchors: each is twice the one before."""
    finest = model.strides_of(model.make_body())[0]
    return tuple(finest * 2**i for i in range(len(model.anchor_fields["sizes"])))


def dense_layers(names: list[str], model: Any, ours: str) -> list[Rule]:
    """The dense layers of a box head, the first of which takes the pooled map."""
    size = dict(model.pooling_fields).get("size", 7)
    rules: list[Rule] = []
    for i, name in enumerate(names):
        kernel = f"{ours}/head/dense_{i}/kernel"
        if i:
            rules += dense(name, f"{ours}/head/dense_{i}")
        else:
            rules.append(rule(f"{name}.weight", kernel, layout=pooled_dense(size)))
            rules.append(rule(f"{name}.bias", f"{ours}/head/dense_{i}/bias"))
    return rules
