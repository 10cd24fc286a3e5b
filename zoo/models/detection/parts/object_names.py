"""torchvision's and detectron2's names for the heads of masks and keypoints.

torchvision also has a mask for the background, its class 0, which nothing uses: its parameters are
not read, and are written as zeros.
"""

from typing import Any

import numpy as np

from zoo.family import Layout, Rule
from zoo.weights.maps import batch_norm, biased_conv, pointwise, rule

# Their transposed convolution [c, d, size, size]; ours [size, size, c, d].
DECONV = Layout(lambda x: (x.transpose(2, 3, 0, 1),), lambda x: x.transpose(2, 3, 0, 1))

# Their rows, the background first; our columns, without it.
MASKS = Layout(
    lambda x: (x[1:, :, 0, 0].T,),
    lambda x: np.pad(x.T, ((1, 0), (0, 0)))[:, :, None, None],
)
MASKS_BIAS = Layout(lambda x: (x[1:],), lambda x: np.pad(x, (1, 0)))


def deconv(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules for torch's ConvTranspose2d; `ours` is a `zoo.layers.deconv.Deconv`."""
    return (
        rule(f"{theirs}.weight", f"{ours}/kernel", layout=DECONV),
        rule(f"{theirs}.bias", f"{ours}/bias"),
    )


def torchvision_mask(
    model: Any, theirs: str = "roi_heads", ours: str = "mask/head", *, old: bool = False
) -> tuple[Rule, ...]:
    """Rules for `MaskRCNNHeads` and `MaskRCNNPredictor`.

    Args:
        model: A model with `mask_conv_dims`.
        theirs: The path of their heads.
        ours: The path of our `MaskHead`.
        old: Whether the names are those of files from before torchvision 0.13.
    """
    rules: list[Rule] = []
    for i in range(len(model.mask_conv_dims)):
        name = f"{theirs}.mask_head.mask_fcn{i + 1}" if old else f"{theirs}.mask_head.{i}.0"
        rules += biased_conv(name, f"{ours}/convs/conv_{i}")
        rules += batch_norm(f"{theirs}.mask_head.{i}.1", f"{ours}/convs/norm_{i}")
    predictor = f"{theirs}.mask_predictor"
    return (
        *rules,
        *deconv(f"{predictor}.conv5_mask", f"{ours}/deconv"),
        rule(f"{predictor}.mask_fcn_logits.weight", f"{ours}/logits/kernel", layout=MASKS),
        rule(f"{predictor}.mask_fcn_logits.bias", f"{ours}/logits/bias", layout=MASKS_BIAS),
    )


def detectron2_mask(
    model: Any, theirs: str = "roi_heads.mask_head", ours: str = "mask/head"
) -> tuple[Rule, ...]:
    """Rules for `MaskRCNNConvUpsampleHead`; see `torchvision_mask`."""
    rules: list[Rule] = []
    for i in range(len(model.mask_conv_dims)):
        rules += biased_conv(f"{theirs}.mask_fcn{i + 1}", f"{ours}/convs/conv_{i}")
        rules += batch_norm(f"{theirs}.mask_fcn{i + 1}.norm", f"{ours}/convs/norm_{i}")
    return (
        *rules,
        *deconv(f"{theirs}.deconv", f"{ours}/deconv"),
        *pointwise(f"{theirs}.predictor", f"{ours}/logits"),
    )


def torchvision_keypoints(
    model: Any, theirs: str = "roi_heads", ours: str = "keypoints/head"
) -> tuple[Rule, ...]:
    """Rules for `KeypointRCNNHeads` and `KeypointRCNNPredictor`.

    Args:
        model: A model with `keypoint_conv_dims`.
        theirs: The path of their heads.
        ours: The path of our `KeypointHead`.
    """
    names = [f"{theirs}.keypoint_head.{2 * i}" for i in range(len(model.keypoint_conv_dims))]
    return _keypoints(names, f"{theirs}.keypoint_predictor.kps_score_lowres", ours)


def detectron2_keypoints(
    model: Any, theirs: str = "roi_heads.keypoint_head", ours: str = "keypoints/head"
) -> tuple[Rule, ...]:
    """Rules for `KRCNNConvDeconvUpsampleHead`; see `torchvision_keypoints`."""
    names = [f"{theirs}.conv_fcn{i + 1}" for i in range(len(model.keypoint_conv_dims))]
    return _keypoints(names, f"{theirs}.score_lowres", ours)


def _keypoints(convs: list[str], last: str, ours: str) -> tuple[Rule, ...]:
    """The rules of a keypoint head for their names of its layers."""
    rules: list[Rule] = []
    for i, name in enumerate(convs):
        rules += biased_conv(name, f"{ours}/convs/conv_{i}")
    return (*rules, *deconv(last, f"{ours}/deconv"))
