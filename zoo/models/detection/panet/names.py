"""Names of the authors' code for PANet: files of ``e2e_panet_R-50-FPN_2x_mask``.

Their backbone has a scale and a shift instead of norms, the stride in a bottleneck's first
convolution, and takes pixels of 0..255 in the order BGR. As in Detectron, the background is class 0
and has a box and a mask, which nothing uses.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.family import Implied, NameMap, Rule
from zoo.models.detection.parts.names import background_first, pooled_dense
from zoo.models.detection.parts.object_names import MASKS, MASKS_BIAS, deconv
from zoo.types import Preprocessing
from zoo.weights.maps import CONV_OF_BGR, biased_conv, conv, norm, rule
from zoo.weights.tree import flatten

_PREPROCESSING = Preprocessing(
    (1000, 1400),
    (122.7717 / 255, 115.9465 / 255, 102.9801 / 255),
    (1 / 255, 1 / 255, 1 / 255),
    interpolation="bilinear",
)


def panet(model: Any) -> tuple[Rule, ...]:
    """`Generalized_RCNN` with `fpn_ResNet50_conv5_body_bup` and heads with group norm.

    None for another backbone than a ResNet of bottlenecks.
    """
    if getattr(model.make_body(), "block", "") != "bottleneck":
        return ()
    return (*_backbone(model), *_neck(model), *_proposals(), *_box(model), *_mask(model))


def _backbone(model: Any) -> list[Rule]:
    """`ResNet_convX_body`."""
    body, theirs = model.make_body(), "Conv_Body.conv_body"
    rules = [*conv(f"{theirs}.res1.conv1", "body/stem_conv", CONV_OF_BGR)]
    rules += norm(f"{theirs}.res1.bn1", "body/stem_norm")
    for i in range(len(body.num_blocks)):
        block, ours = f"{theirs}.res{i + 2}.{{j}}", f"body/stages_{i}_{{j}}"
        for k in (1, 2, 3):
            rules += conv(f"{block}.conv{k}", f"{ours}/conv{k}")
            rules += norm(f"{block}.bn{k}", f"{ours}/norm{k}")
        rules += conv(f"{block}.downsample.0", f"{ours}/shortcut_conv")
        rules += norm(f"{block}.downsample.1", f"{ours}/shortcut_norm")
    return rules


def _neck(model: Any) -> list[Rule]:
    """`fpn`; theirs counts most levels from the coarsest one."""
    last = len(model.make_body().feature_strides) - 1
    rules = _layer("Conv_Body.conv_top", f"pyramid/lateral_{{}}_{last}")
    for i in range(last + 1):
        ours = f"pyramid/output_{{}}_{last - i}"
        rules += _layer(f"Conv_Body.posthoc_modules.{i}", ours)
    for i in range(last):
        lateral = f"Conv_Body.topdown_lateral_modules.{i}.conv_lateral"
        rules += _layer(lateral, f"pyramid/lateral_{{}}_{last - 1 - i}")
        rules += _layer(f"Conv_Body.panet_buttomup_conv1_modules.{i}", f"pyramid/down_{{}}_{i}")
        rules += _layer(f"Conv_Body.panet_buttomup_conv2_modules.{i}", f"pyramid/merge_{{}}_{i}")
    return rules


def _layer(theirs: str, ours: str, first: int = 0) -> list[Rule]:
    """A convolution and its group norm, which are members `first` and the next of a sequence."""
    rules = biased_conv(f"{theirs}.{first}", ours.format("conv"))
    return [*rules, *norm(f"{theirs}.{first + 1}", ours.format("norm"))]


def _proposals() -> tuple[Rule, ...]:
    """`fpn_rpn_outputs`."""
    return (
        *biased_conv("RPN.FPN_RPN_conv", "rpn/head/conv_0"),
        *biased_conv("RPN.FPN_RPN_cls_score", "rpn/head/logits"),
        *biased_conv("RPN.FPN_RPN_bbox_pred", "rpn/head/deltas"),
    )


def _pool(model: Any, levels: str, convs: str, ours: str, count: int) -> list[Rule]:
    """The convolutions of an `AdaptivePooling`: those of the levels, and the `count` next ones."""
    rules: list[Rule] = []
    for i in range(len(model.make_body().feature_strides)):
        rules += _layer(f"{levels}.{i}", f"{ours}/level_{i}/{{}}_0")
    for i in range(count):
        rules += _layer(convs, f"{ours}/convs/{{}}_{i}", 3 * i)
    return rules


def _box(model: Any) -> list[Rule]:
    """`roi_Xconv1fc_gn_head_panet` and `fast_rcnn_outputs`."""
    size = dict(model.pooling_fields).get("size", 7)
    count = len(model.box_conv_dims) - 1
    rules = _pool(model, "Box_Head.conv1_head", "Box_Head.convs", "box/pool", count)
    return [
        *rules,
        rule("Box_Head.fc.weight", "box/head/dense_0/kernel", layout=pooled_dense(size)),
        rule("Box_Head.fc.bias", "box/head/dense_0/bias"),
        *background_first("Box_Outs", "box/predictor"),
    ]


def _mask(model: Any) -> list[Rule]:
    """`mask_rcnn_fcn_head_v1up4convs_gn_adp_ff` and `mask_rcnn_outputs`."""
    dense = pooled_dense(model.mask_pool_size)
    count = len(model.mask_conv_dims) - 2
    return [
        *_pool(model, "Mask_Head.mask_conv1", "Mask_Head.conv_fcn", "mask/pool", count),
        *_layer("Mask_Head.mask_conv4", "mask/head/conv/{}_0"),
        *_layer("Mask_Head.mask_conv4_fc", "mask/head/dense_convs/{}_0"),
        *_layer("Mask_Head.mask_conv5_fc", "mask/head/dense_convs/{}_1"),
        rule("Mask_Head.mask_fc.0.weight", "mask/head/dense/kernel", layout=dense),
        rule("Mask_Head.mask_fc.0.bias", "mask/head/dense/bias"),
        *deconv("Mask_Head.upconv", "mask/head/deconv"),
        rule("Mask_Outs.classify.weight", "mask/head/logits/kernel", layout=MASKS),
        rule("Mask_Outs.classify.bias", "mask/head/logits/bias", layout=MASKS_BIAS),
    ]


def _fields(model: Any) -> dict[str, Any]:
    """The form of the backbone's weights."""
    body = {**model.backbone_fields, "stride_in_1x1": True}
    return {"backbone_fields": body, "norm_epsilon": 0.0}


def _implied(model: Any) -> dict[str, Implied]:
    """Statistics with which the norms of the backbone are a scale and a shift."""
    body, images = model.make_body(), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(partial(body.init, method="feature_maps"), jax.random.key(0), images)
    leaves = flatten({"batch_stats": {"body": shapes["batch_stats"]}})
    why = "the file has a scale and a shift instead of a norm"
    values = {"mean": 0.0, "var": 1.0}
    return {
        path: Implied(np.full(leaf.shape, values[path.rpartition("/")[2]], np.float32), why)
        for path, leaf in leaves.items()
    }


NAMES = (
    NameMap(
        "panet",
        panet,
        fields=_fields,
        implied=_implied,
        preprocessing=lambda *_: _PREPROCESSING,
    ),
)
