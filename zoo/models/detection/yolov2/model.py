"""YOLO v2: boxes, objectness and classes of anchors in the cells of one grid.

Paper: "YOLO9000: Better, Faster, Stronger", arXiv 1612.08242. Reference: ``cfg/yolov2*.cfg`` of
pjreddie/darknet, whose compiled program gives the same outputs, detections and gradients.

Deviations: the last layer starts with an objectness of 0.01 and with boxes near their anchors;
darknet also draws the boxes of the first 12,800 images towards their anchors. The number of
detections is limited: see `zoo.models.detection.parts.yolo.YoloDecoding`.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.layers import ConvNorm, Norm
from zoo.models.backbones import freeze_mappings, make_frozen_backbone
from zoo.models.detection.parts.inputs import pad_images
from zoo.models.detection.parts.yolo import (
    YoloDecoding,
    YoloOutput,
    YoloPredictor,
    norms_of,
    yolo_output,
)
from zoo.ops.grid_anchors import GridAnchors
from zoo.ops.reorg import reorg
from zoo.outputs import Targets
from zoo.types import Preprocessing


def in_cells(*pairs: tuple[float, float], stride: int = 32) -> FrozenDict:
    """Fields of anchors in pixels, from darknet's widths and heights in cells."""
    return FrozenDict({"sizes": (tuple((w * stride, h * stride) for w, h in pairs),)})


_COCO_ANCHORS = in_cells(
    (0.57273, 0.677385),
    (1.87446, 2.06253),
    (3.33843, 5.47434),
    (7.88282, 3.52778),
    (9.77052, 9.16828),
)


class YOLOv2(nn.Module):
    """Images to the class, box and objectness of every anchor.

    Attributes:
        num_classes: Number of classes; 80 for COCO, 20 for PASCAL VOC.
        backbone: Name of a registered backbone.
        backbone_fields: Fields that replace those of the backbone's name.
        anchor_fields: Fields of `zoo.ops.grid_anchors.GridAnchors`, of one level, the coarsest map
            of the backbone.
        neck_dims: Features of the 3 x 3 convolutions of the backbone's last map.
        passthrough_dim: Features of the 1 x 1 convolution of the map before it, which `reorg` then
            makes a coarser map that stands before the others; None for none (the tiny network).
        merged_dim: Features of the 3 x 3 convolution of both maps together; None without them.
        norm: Kind of norm, in the backbone as well; ``frozen`` for constants.
        norm_epsilon: Added to the variance in norms, in the backbone as well.
        norm_momentum: Share of the old statistics that training keeps, after the backbone.
        negative_slope: Factor of negative values after the backbone.
        decoding_fields: Fields of `zoo.models.detection.parts.yolo.YoloDecoding`.
        dtype: Dtype of the computation; parameters and the last layer are float32.
        preprocessing: How the loaded weights expect their images; None: as the variant says.
        class_names: Name of each class, if the loaded weights have names.
    """

    num_classes: int = 80
    backbone: str = "darknet19"
    backbone_fields: Mapping[str, Any] = FrozenDict()
    anchor_fields: Mapping[str, Any] = _COCO_ANCHORS
    neck_dims: tuple[int, ...] = (1024, 1024)
    passthrough_dim: int | None = 64
    merged_dim: int | None = 1024
    norm: Norm = "batch"
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.99
    negative_slope: float = 0.1
    decoding_fields: Mapping[str, Any] = FrozenDict({"classes": "softmax"})
    dtype: DTypeLike = jnp.float32
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Makes the mappings hashable, as a module's fields must be."""
        freeze_mappings(self)
        super().__post_init__()

    @nn.nowrap
    def make_body(self) -> nn.Module:
        """The backbone, without its head.

        Raises:
            InputError: If there is no such backbone, or it has no such field.
        """
        fields = {"norm": self.norm, **self.backbone_fields}
        return make_frozen_backbone(self.backbone, fields, self.dtype, self.norm_epsilon)

    def setup(self) -> None:
        """Makes the submodules."""
        self.body = self.make_body()
        strides = self.body.feature_strides[-1:]
        self.grid = GridAnchors(strides=strides, **self.anchor_fields)
        norms = norms_of(self, self.dtype)
        self.neck = [ConvNorm(dim, 3, **norms) for dim in self.neck_dims]
        if self.passthrough_dim and self.merged_dim:
            self.passthrough = ConvNorm(self.passthrough_dim, 1, **norms)
            self.merged = ConvNorm(self.merged_dim, 3, **norms)
        self.level = YoloPredictor(self.num_classes, *self.grid.num_per_cell)

    def features(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b _ _ d"]:
        """The map before the last layer."""
        *_, fine, x = self.body.feature_maps(images, train=train)
        for layer in self.neck:
            x = layer(x, train=train)
        if not self.passthrough_dim:
            return x
        fine = reorg(self.passthrough(fine, train=train))
        return self.merged(jnp.concatenate([fine, x], axis=-1), train=train)

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        valid: Bool[Array, "b h w"] | None = None,
        *,
        targets: Targets | None = None,
        train: bool = False,
    ) -> YoloOutput:
        """Predictions for normalised images.

        Args:
            images: A batch; images that are not of the size of the batch are padded below and on
                the right.
            valid: False for the padding; all pixels are valid if absent.
            targets: The objects; only the loss needs them.
            train: Whether batch norm is in training.
        """
        del targets
        images, _ = pad_images(images, valid, max(self.body.feature_strides))
        x = self.features(images, train=train)
        decoding = YoloDecoding(**self.decoding_fields)
        return yolo_output(self.grid, [x], [self.level(x)], decoding)
