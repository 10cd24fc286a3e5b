"""Pyramids of feature maps for detectors: FPN, and with a path from fine to coarse, PAFPN.

Papers: "Feature Pyramid Networks for Object Detection", arXiv 1612.03144, section 3; its coarser
levels for dense detectors: "Focal Loss for Dense Object Detection", arXiv 1708.02002, section 4;
"Path Aggregation Network for Instance Segmentation", arXiv 1803.01534, section 3.1. References:
torchvision's `FeaturePyramidNetwork`, detectron2's `FPN`, mmdet's `FPN` and `PAFPN`, and the
authors' code of PANet, with which outputs agree.

Deviations: the maps may have any sizes, coarser maps are enlarged to those of the finer ones;
detectron2 and the authors of PANet double them.
"""

from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.layers.conv import conv_layer
from zoo.layers.norm import Norm, norm_layer
from zoo.ops.resample import enlarge_nearest

Extra = Literal["pool", "input", "output"]
Form = Literal["panet", "mmdet"]
_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")


class FPN(nn.Module):
    """Maps of a backbone to maps of the same sizes, which all have `dim` features.

    The sum of a level is a 1 x 1 convolution of its map, plus the enlarged sum of the coarser
    level; its output is a 3 x 3 convolution of the sum. There are no activations.

    Attributes:
        dim: Features of the outputs.
        norm: Norm after each of these convolutions, which then have no bias; None for none.
        num_extra: Number of coarser levels after these, each half as high and wide as the last.
        extra: How they are made. ``pool``: every second pixel of the last output, for the proposals
            of Faster R-CNN. ``input``, ``output``: 3 x 3 convolutions, the first of them of the
            backbone's coarsest map or of the last output, as in RetinaNet and FCOS.
        extra_relu: Whether a ReLU precedes all of these convolutions but the first.
        dtype: Dtype of the computation; parameters are float32.
    """

    dim: int = 256
    norm: Norm | None = None
    num_extra: int = 0
    extra: Extra = "pool"
    extra_relu: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, maps: tuple[Float[Array, "b _ _ _"], ...], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ d"], ...]:
        """The levels of the pyramid, finest first.

        Args:
            maps: Of the backbone, finest first.
            train: Whether batch norm uses, and updates, the statistics.
        """
        outputs = _top_down(self, maps, train=train)
        return outputs + _extra_levels(self, outputs[-1], maps[-1])


class PAFPN(nn.Module):
    """An FPN whose outputs are then summed from fine to coarse: PANet's bottom-up path.

    Attributes:
        dim: Features of the outputs.
        norm: Norm after each convolution except those of extra levels; None for none.
        form: ``panet``: each level is a 3 x 3 convolution, with stride 2, of the finer *output*,
            plus the FPN's level, and then a 3 x 3 convolution; both with a ReLU. ``mmdet``: the
            first of these takes the finer *sum*, and there are no ReLUs.
        num_extra: As in `FPN`, after the bottom-up path.
        extra: As in `FPN`.
        extra_relu: As in `FPN`.
        dtype: Dtype of the computation; parameters are float32.
    """

    dim: int = 256
    norm: Norm | None = None
    form: Form = "panet"
    num_extra: int = 0
    extra: Extra = "pool"
    extra_relu: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, maps: tuple[Float[Array, "b _ _ _"], ...], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ d"], ...]:
        """The levels, finest first; see `FPN`."""
        panet = self.form == "panet"
        # The authors' convolutions have a bias even if a norm follows.
        conv = partial(_conv_norm, self, train=train, bias=panet or None)
        activation = nn.relu if panet else lambda x: x

        finest, *coarser = _top_down(self, maps, train=train)
        outputs, below = [finest], finest
        for i, level in enumerate(coarser):
            total = level + activation(conv(below, 3, f"down_{{}}_{i}", 2))
            outputs.append(activation(conv(total, 3, f"merge_{{}}_{i}")))
            below = outputs[-1] if panet else total
        return tuple(outputs) + _extra_levels(self, outputs[-1], maps[-1])


def _top_down(
    pyramid: FPN | PAFPN, maps: tuple[Float[Array, "b _ _ _"], ...], *, train: bool
) -> tuple[Float[Array, "b _ _ d"], ...]:
    """The lateral convolutions, the sums from coarse to fine, and the output convolutions."""
    conv = partial(_conv_norm, pyramid, train=train)
    sums = [conv(x.astype(pyramid.dtype), 1, f"lateral_{{}}_{i}") for i, x in enumerate(maps)]
    for i in reversed(range(len(sums) - 1)):
        height, width = sums[i].shape[1:3]
        sums[i] += enlarge_nearest(sums[i + 1], (height, width))
    return tuple(conv(x, 3, f"output_{{}}_{i}") for i, x in enumerate(sums))


def _conv_norm(
    pyramid: FPN | PAFPN,
    x: Float[Array, "b h w c"],
    size: int,
    name: str,
    stride: int = 1,
    *,
    train: bool,
    bias: bool | None = None,
) -> Float[Array, "b h2 w2 d"]:
    """A convolution and the pyramid's norm; without `bias` there is one if no norm follows."""
    bias = pyramid.norm is None if bias is None else bias
    x = _conv(pyramid, size, stride, bias=bias, name=name.format("conv"))(x)
    if pyramid.norm is None:
        return x
    return norm_layer(pyramid.norm, pyramid.dtype, train=train)(name=name.format("norm"))(x)


def _conv(pyramid: FPN | PAFPN, size: int, stride: int, **options: Any) -> nn.Conv:
    options |= {"kernel_init": _INIT, "dtype": pyramid.dtype}
    return conv_layer(pyramid.dim, size, stride, **options)


def _extra_levels(
    pyramid: FPN | PAFPN, output: Float[Array, "b h w d"], coarsest: Float[Array, "b h2 w2 c"]
) -> tuple[Float[Array, "b _ _ d"], ...]:
    """The levels after the last output; `coarsest` is the backbone's last map."""
    levels, x = [], output if pyramid.extra != "input" else coarsest.astype(pyramid.dtype)
    for i in range(pyramid.num_extra):
        if pyramid.extra == "pool":
            x = x[:, ::2, ::2]
        else:
            x = nn.relu(x) if i and pyramid.extra_relu else x
            x = _conv(pyramid, 3, 2, bias=True, name=f"extra_conv_{i}")(x)
        levels.append(x)
    return tuple(levels)
