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
from flax.core import FrozenDict
from jaxtyping import Array, Float

from zoo.layers import ConvNorm
from zoo.models.detection.parts.yolo import YoloPredictor
from zoo.models.detection.parts.yolo_detector import YoloDetector
from zoo.ops.grid_anchors import GridAnchors
from zoo.ops.reorg import reorg


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


class YOLOv2(YoloDetector):
    """Images to the class, box and objectness of every anchor.

    Attributes:
        anchor_fields: Fields of `zoo.ops.grid_anchors.GridAnchors`, of one level, the coarsest map
            of the backbone.
        neck_dims: Features of the 3 x 3 convolutions of the backbone's last map.
        passthrough_dim: Features of the 1 x 1 convolution of the map before it, which `reorg` then
            makes a coarser map that stands before the others; None for none (the tiny network).
        merged_dim: Features of the 3 x 3 convolution of both maps together; None without them.
    """

    backbone: str = "darknet19"
    anchor_fields: Mapping[str, Any] = _COCO_ANCHORS
    neck_dims: tuple[int, ...] = (1024, 1024)
    passthrough_dim: int | None = 64
    merged_dim: int | None = 1024
    decoding_fields: Mapping[str, Any] = FrozenDict({"classes": "softmax"})

    def setup(self) -> None:
        """Makes the submodules."""
        self.body = self.make_body()
        strides = self.body.feature_strides[-1:]
        self.grid = GridAnchors(strides=strides, **self.anchor_fields)
        self.neck = [ConvNorm(dim, 3, **self.norms) for dim in self.neck_dims]
        if self.passthrough_dim and self.merged_dim:
            self.passthrough = ConvNorm(self.passthrough_dim, 1, **self.norms)
            self.merged = ConvNorm(self.merged_dim, 3, **self.norms)
        self.levels = [YoloPredictor(self.num_classes, n) for n in self.grid.num_per_cell]

    def features(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ d"], ...]:
        """The map before the last layer."""
        *_, fine, x = self.body.feature_maps(images, train=train)
        for layer in self.neck:
            x = layer(x, train=train)
        if not self.passthrough_dim:
            return (x,)
        fine = reorg(self.passthrough(fine, train=train))
        return (self.merged(jnp.concatenate([fine, x], axis=-1), train=train),)
