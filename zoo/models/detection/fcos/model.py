"""FCOS.

Papers: "FCOS: Fully Convolutional One-Stage Object Detection", arXiv 1904.01355, figure 2; "FCOS: A
Simple and Strong Anchor-free Object Detector", arXiv 2006.09214. References: torchvision's and
mmdet's `FCOS`, with which outputs agree.

A point is the centre of a square anchor whose side is the stride of its level: the anchors' fields
say where the points are. Labels are those of `zoo.models.detection.retinanet.model`, as is what
becomes of the background's column.
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers.norm import Norm
from zoo.models.backbones import freeze_mappings
from zoo.models.detection.parts.dense import DenseDecoding, DenseOutput, dense_output
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.parts.towers import Tower, output_conv, per_anchor
from zoo.models.detection.parts.trunk import PyramidTrunk
from zoo.ops.anchors import Anchors
from zoo.ops.distance_coder import DistanceCoder
from zoo.outputs import Targets
from zoo.types import Preprocessing, check_choice

Distances = Literal["relu", "exp"]
CentreTower = Literal["box", "class"]
_Levels = list[Float[Array, "b _ _"]]


class FCOSHead(nn.Module):
    """A tower for classes and one for boxes; the centerness is a second output of one of them.

    Attributes:
        num_classes: Without the background.
        num_convs: Convolutions of a tower.
        norm: Norm after each; None for none.
        bias: Whether they have a bias also if a norm follows.
        distances: Function that makes the outputs for boxes positive.
        level_scales: Whether these outputs are first multiplied by a learned number for each level.
        centerness_tower: The tower that predicts the centerness.
        dtype: Dtype of the towers; parameters and the outputs are float32.
    """

    num_classes: int
    num_convs: int = 4
    norm: Norm | None = "group"
    bias: bool = True
    distances: Distances = "relu"
    level_scales: bool = False
    centerness_tower: CentreTower = "box"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, maps: tuple[Float[Array, "b _ _ d"], ...], *, train: bool = False
    ) -> tuple[_Levels, _Levels, _Levels]:
        """Logits, distances and logits of the centerness of each level, by row and column."""
        check_choice("distances", self.distances, Distances)
        check_choice("centerness_tower", self.centerness_tower, CentreTower)
        fields = (self.num_convs, self.norm, self.bias or not self.norm, self.dtype)
        towers = {
            name: Tower(*fields, name=f"{name}_tower")(maps, train=train)
            for name in ("class", "box")
        }
        conv = output_conv(self.num_classes, "logits", 0.01)
        logits = per_anchor(conv, towers["class"], self.num_classes)
        deltas = per_anchor(output_conv(4, "deltas"), towers["box"], 4)
        if self.level_scales:
            one = nn.initializers.ones
            deltas = [x * self.param(f"scale_{i}", one, ()) for i, x in enumerate(deltas)]
        positive = nn.relu if self.distances == "relu" else jnp.exp
        conv = output_conv(1, "centerness")
        return (
            logits,
            list(map(positive, deltas)),
            per_anchor(conv, towers[self.centerness_tower], 1),
        )


class FCOS(nn.Module):
    """Images to the class and box of every point.

    Attributes:
        num_classes: Number of classes, without the background; 90 for COCO in torchvision's files
            (see above), 80 in the others'.
        backbone: Name of a registered backbone.
        backbone_fields: Fields that replace those of the backbone's name. Batch normalisation is
            ``frozen`` unless `norm` is given here.
        norm_epsilon: Added to the variance in the norms of the backbone; None: as it has it.
        finest_stride: Maps of the backbone with a smaller stride are not used.
        pyramid_dim: Features of the pyramid's maps and of the towers.
        num_extra: Coarser levels than those of the backbone, made from the pyramid's last map.
        num_convs: Convolutions of a tower.
        head_norm: Norm in the towers; None for none.
        tower_bias: Whether the towers' convolutions have a bias although a norm follows.
        distances: Function that makes the outputs for boxes positive.
        level_scales: Whether these outputs are first multiplied by a learned number for each level.
        relative: Whether they are multiples of the stride; else they are in pixels.
        centerness_tower: The tower that predicts the centerness, ``box`` or ``class``.
        anchor_fields: Fields of `zoo.ops.anchors.Anchors`.
        limits: Sizes in pixels at which the objects of one level end and those of the next begin:
            see `zoo.ops.assign_points`.
        decoding_fields: Fields of `zoo.models.detection.parts.dense.DenseDecoding`.
        dtype: Dtype of the computation; parameters and the last layers are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 90
    backbone: str = "resnet50"
    backbone_fields: Mapping[str, Any] = FrozenDict()
    norm_epsilon: float | None = None
    finest_stride: int = 8
    pyramid_dim: int = 256
    num_extra: int = 2
    num_convs: int = 4
    head_norm: Norm | None = "group"
    tower_bias: bool = True
    distances: Distances = "relu"
    level_scales: bool = False
    relative: bool = True
    centerness_tower: CentreTower = "box"
    anchor_fields: Mapping[str, Any] = FrozenDict(
        {"sizes": ((8,), (16,), (32,), (64,), (128,)), "ratios": (1.0,), "rounded": True}
    )
    limits: tuple[float, ...] = (64.0, 128.0, 256.0, 512.0)
    decoding_fields: Mapping[str, Any] = FrozenDict(
        {"score_threshold": 0.2, "iou_threshold": 0.6, "most": 100}
    )
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Makes the mappings hashable, as a module's fields must be."""
        freeze_mappings(self)
        super().__post_init__()

    def setup(self) -> None:
        """Makes the submodules; those of the trunk are ``body`` and ``pyramid``."""
        self.trunk = self.make_trunk()
        nn.share_scope(self, self.trunk)
        self.head = FCOSHead(
            self.num_classes,
            self.num_convs,
            self.head_norm,
            self.tower_bias,
            self.distances,
            self.level_scales,
            self.centerness_tower,
            self.dtype,
        )

    @nn.nowrap
    def make_trunk(self) -> PyramidTrunk:
        """What makes the maps of the pyramid."""
        return PyramidTrunk(
            self.backbone,
            self.backbone_fields,
            self.norm_epsilon,
            self.finest_stride,
            self.pyramid_dim,
            num_extra=self.num_extra,
            dtype=self.dtype,
        )

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The backbone: see `PyramidTrunk.make_body`."""
        return self.make_trunk().make_body()

    def features(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ d"], ...]:
        """The pyramid's maps of images whose height and width are multiples of 32."""
        return self.trunk(images, train=train)

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> DenseOutput:
        """Predictions for normalised images.

        Args:
            images: A batch, padded below and on the right.
            valid: False for the padding; all pixels are valid if absent.
            targets: The objects; only the loss needs them.
            train: Whether batch norm is in training.
        """
        del targets
        images, _ = pad_images(images, valid, 32)
        maps = self.features(images, train=train)
        logits, deltas, centerness = self.head(maps, train=train)
        decoding = DenseDecoding(**self.decoding_fields, coder=DistanceCoder(self.relative))
        anchors = Anchors(**self.anchor_fields)
        more = {"centerness": centerness, "limits": self.limits}
        return dense_output(images, maps, anchors, logits, deltas, decoding, **more)
