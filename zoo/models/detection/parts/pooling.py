"""Features of regions: RoIAlign or RoIPool from the pyramid's level that fits a region's size."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from zoo.ops.roi_align import assign_levels, roi_align
from zoo.ops.roi_pool import roi_pool


@dataclasses.dataclass(frozen=True)
class RoiPooling:
    """How regions are pooled; the defaults are torchvision's.

    detectron2 has ``sampling_ratio=0, aligned=True, level_epsilon=0.0, ratio_epsilon=1e-8``.

    Attributes:
        size: Rows and columns of the pooled map.
        operation: ``align`` for RoIAlign; ``pool`` for the RoIPool of Fast R-CNN, which does not
            use `sampling_ratio` and `aligned`.
        sampling_ratio: See `zoo.ops.roi_align.roi_align`.
        aligned: Likewise.
        canonical_size: See `zoo.ops.roi_align.assign_levels`.
        canonical_level: Likewise.
        level_epsilon: Likewise.
        ratio_epsilon: Likewise.
        last_pixel: Whether a region ends at the place of its last pixel, one before the box ends,
            as in Detectron, whose boxes include that pixel.
    """

    size: int = 7
    operation: Literal["align", "pool"] = "align"
    sampling_ratio: int = 2
    aligned: bool = False
    canonical_size: int | float = 224
    canonical_level: int = 4
    level_epsilon: float = 1e-6
    ratio_epsilon: float = 0.0
    last_pixel: bool = False

    def __call__(
        self,
        maps: Sequence[Float[Array, "b _ _ c"]],
        strides: Sequence[int],
        boxes: Float[Array, "b r 4"],
        valid: Bool[Array, "b r"] | None = None,
    ) -> Float[Array, "b r size size c"]:
        """The features of each box.

        Args:
            maps: Finest first; as many of the first as there are strides are used.
            strides: Pixels of the image in a cell, powers of 2.
            boxes: ``xyxy`` in pixels; no gradient flows to them.
            valid: Boxes where it is False get zeros, and take no time.
        """
        levels = assign_levels(
            boxes,
            round(math.log2(strides[0])),
            round(math.log2(strides[-1])),
            canonical_size=self.canonical_size,
            canonical_level=self.canonical_level,
            level_epsilon=self.level_epsilon,
            ratio_epsilon=self.ratio_epsilon,
        )
        levels = levels if valid is None else jnp.where(valid, levels, -1)
        return self._pool(maps[: len(strides)], strides, boxes, levels)

    def from_all(
        self,
        maps: Sequence[Float[Array, "b _ _ c"]],
        strides: Sequence[int],
        boxes: Float[Array, "b r 4"],
        valid: Bool[Array, "b r"] | None = None,
    ) -> list[Float[Array, "b r size size c"]]:
        """The features of each box in every map: see `__call__`."""
        shape = boxes.shape[:2]
        levels = jnp.where(jnp.ones(shape, bool) if valid is None else valid, 0, -1)
        pairs = zip(maps[: len(strides)], strides, strict=True)
        return [self._pool([x], [stride], boxes, levels) for x, stride in pairs]

    def _pool(
        self,
        maps: Sequence[Float[Array, "b _ _ c"]],
        strides: Sequence[int],
        boxes: Float[Array, "b r 4"],
        levels: Int[Array, "b r"],
    ) -> Float[Array, "b r size size c"]:
        """The features of each box in the map with this number; zeros for -1."""
        if self.last_pixel:
            boxes = boxes - jnp.array([0, 0, 1, 1], boxes.dtype)
        if self.operation == "pool":
            return roi_pool(maps, boxes, levels, strides=strides, size=self.size)
        return roi_align(
            maps,
            boxes,
            levels,
            strides=strides,
            size=self.size,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
        )
