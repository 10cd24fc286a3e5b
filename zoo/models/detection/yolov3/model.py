"""YOLO v3: boxes, objectness and classes of anchors in the cells of three grids.

Paper: "YOLOv3: An Incremental Improvement", arXiv 1804.02767. References: ``cfg/yolov3*.cfg`` of
pjreddie/darknet and mmdet's `YOLOV3`, with which outputs, detections and losses agree.

Deviations: the last layers start with an objectness of 0.01 and with boxes near their anchors. The
number of detections and of candidates is limited, in darknet it is not: see
`zoo.models.detection.parts.yolo.YoloDecoding`.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Float

from zoo.layers import ConvNorm
from zoo.models.detection.parts.yolo import YoloPredictor
from zoo.models.detection.parts.yolo_detector import YoloDetector
from zoo.ops.grid_anchors import GridAnchors
from zoo.ops.pool import max_pool_same
from zoo.ops.resample import upsample_nearest

_COCO_ANCHORS = FrozenDict(
    {
        "sizes": (
            ((10, 13), (16, 30), (33, 23)),
            ((30, 61), (62, 45), (59, 119)),
            ((116, 90), (156, 198), (373, 326)),
        )
    }
)


class YoloNeck(nn.Module):
    """From coarse to fine: convolutions of each level, whose result is added to the next map.

    1 x 1 and 3 x 3 convolutions alternate, to `dims` and to twice as many features. The result of
    a level passes a 1 x 1 convolution, is doubled in size, and stands before the finer map.

    Attributes:
        dims: Features of each level, finest first.
        num_convs: Convolutions of each level, odd, or 0 to use the map itself; finest first.
        pool_sizes: Windows of spatial pyramid pooling after the third convolution of the coarsest
            level (YOLOv3-SPP); empty for none. A fourth, 1 x 1, then follows before the others.
        norms: Fields of `ConvNorm`.
    """

    dims: tuple[int, ...]
    num_convs: tuple[int, ...]
    pool_sizes: tuple[int, ...]
    norms: Mapping[str, Any]

    @nn.compact
    def __call__(
        self, maps: tuple[Float[Array, "b _ _ _"], ...], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The results of all levels, finest first; a map is half as high and wide as the finer."""
        results: list[Float[Array, "b _ _ _"]] = []
        for i in reversed(range(len(maps))):
            x = maps[i]
            if results:
                layer = ConvNorm(self.dims[i], 1, **self.norms, name=f"lateral_{i}")
                x = jnp.concatenate([upsample_nearest(layer(results[-1], train=train)), x], axis=-1)
            pools = self.pool_sizes if i == len(maps) - 1 else ()
            results.append(self._level(x, i, pools, train=train))
        return tuple(reversed(results))

    def _level(
        self, x: Float[Array, "b h w c"], i: int, pools: tuple[int, ...], *, train: bool
    ) -> Float[Array, "b h w d"]:
        sizes = [1, 3] * (self.num_convs[i] // 2) + [1] * (self.num_convs[i] % 2)
        if pools:
            sizes.insert(3, 1)
        for j, size in enumerate(sizes):
            if pools and j == 3:
                x = jnp.concatenate([*(max_pool_same(x, n) for n in pools), x], axis=-1)
            dim = self.dims[i] * (1 if size == 1 else 2)
            x = ConvNorm(dim, size, **self.norms, name=f"level_{i}_{j}")(x, train=train)
        return x


class YOLOv3(YoloDetector):
    """Images to the class, box and objectness of every anchor.

    Attributes:
        anchor_fields: Fields of `zoo.ops.grid_anchors.GridAnchors`; the coarsest maps of the
            backbone are used, as many as there are levels of ``sizes``.
        neck_dims: As `dims` of `YoloNeck`.
        neck_convs: As `num_convs` of `YoloNeck`.
        pool_sizes: As there.
    """

    anchor_fields: Mapping[str, Any] = _COCO_ANCHORS
    neck_dims: tuple[int, ...] = (128, 256, 512)
    neck_convs: tuple[int, ...] = (5, 5, 5)
    pool_sizes: tuple[int, ...] = ()

    def setup(self) -> None:
        """Makes the submodules."""
        self.body = self.make_body()
        count = len(self.anchor_fields["sizes"])
        if not count == len(self.neck_dims) == len(self.neck_convs):
            raise ValueError(
                f"{count} levels of anchors, but neck_dims={self.neck_dims} and"
                f" neck_convs={self.neck_convs}"
            )
        strides = self.body.feature_strides[-count:]
        self.grid = GridAnchors(strides=strides, **self.anchor_fields)
        self.neck = YoloNeck(self.neck_dims, self.neck_convs, self.pool_sizes, self.norms)
        self.bridges = [ConvNorm(2 * dim, 3, **self.norms) for dim in self.neck_dims]
        self.levels = [YoloPredictor(self.num_classes, n) for n in self.grid.num_per_cell]

    def features(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The maps before the last layers, finest first."""
        maps = self.body.feature_maps(images, train=train)[-len(self.neck_dims) :]
        maps = self.neck(maps, train=train)
        return tuple(layer(x, train=train) for layer, x in zip(self.bridges, maps, strict=True))
