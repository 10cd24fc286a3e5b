"""Anchors: the boxes of fixed sizes and shapes that detectors classify and refine at every cell.

They depend on the shapes of the feature maps only, so they are numpy arrays, which are constants of
a compiled program. The conventions of the implementations are fields of `Anchors`:

| implementation | settings |
| --- | --- |
| torchvision | ``order="ratio", rounded=True, strides=None`` |
| detectron2 | ``order="size"`` and nominal strides |
| mmdet | ``order="ratio"`` and nominal strides |
| effdet, automl | ``order="size", offset=0.5``, shapes and nominal strides |
| py-faster-rcnn, py-R-FCN | ``order="ratio", legacy=True`` and nominal strides |
| Detectron, in our boxes | ``order="ratio", legacy=True, far_edge=True`` and nominal strides |

Faster R-CNN: arXiv 1506.01497; one size for each level of a pyramid: arXiv 1612.03144.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from zoo.types import check_choice

Order = Literal["ratio", "size"]
_Shape = tuple[int, int]
_Number = int | float


@dataclasses.dataclass(frozen=True)
class Anchors:
    """Sizes, shapes and places of anchors.

    >>> anchors = Anchors(sizes=((32.0,),), ratios=(1.0,), strides=(16.0,))
    >>> anchors.per_level([(1, 2)])[0].tolist()
    [[-16.0, -16.0, 16.0, 16.0], [0.0, -16.0, 32.0, 16.0]]

    Attributes:
        sizes: For each level, finest first: square roots of the areas in pixels; as many for every
            level.
        ratios: Height / width of the shapes.
        strides: Pixels from one cell to the next, for each level. None: the size of the padded
            image divided by that of the map, rounded down, for rows and columns separately, as
            torchvision does: 61 and not 64 for 13 cells in 800 pixels.
        offset: Place of an anchor's centre in its cell: 0 the top left corner, 0.5 the middle.
        order: Order of a cell's anchors: all sizes of the first ratio first (``ratio``), or all
            ratios of the first size first (``size``).
        rounded: Whether the corners relative to the centre are rounded to whole pixels.
        legacy: Caffe's anchors: a box includes its last pixel, so its width is x2 - x1 + 1; they
            are multiples of a box of stride x stride pixels at the corner of the image whose width
            and height are rounded for each ratio.
        far_edge: Whether legacy anchors end at the far edge of their last pixel, one pixel further,
            as boxes do everywhere else.
        shapes: Widths and heights of the shapes for a size of 1, which replace `ratios`:
            EfficientDet's have not exactly the same area.

    Raises:
        ValueError: If the fields do not fit together.
    """

    sizes: tuple[tuple[_Number, ...], ...]
    ratios: tuple[_Number, ...] = (0.5, 1.0, 2.0)
    strides: tuple[_Number, ...] | None = None
    offset: _Number = 0
    order: Order = "ratio"
    rounded: bool = False
    legacy: bool = False
    far_edge: bool = False
    shapes: tuple[tuple[_Number, _Number], ...] | None = None

    def __post_init__(self) -> None:
        check_choice("order", self.order, Order)
        if len({len(sizes) for sizes in self.sizes}) != 1:
            raise ValueError(f"sizes must have as many values for every level, got {self.sizes}")
        if self.strides is not None and len(self.strides) != len(self.sizes):
            raise ValueError(f"{len(self.sizes)} levels of sizes, but strides {self.strides}")
        if self.legacy and self.strides is None:
            raise ValueError("legacy anchors need strides")
        if self.legacy and self.shapes is not None:
            raise ValueError("legacy anchors have ratios, not shapes")
        if self.far_edge and not self.legacy:
            raise ValueError("far_edge is for legacy anchors")

    @property
    def num_per_cell(self) -> int:
        """Anchors at each cell of a map."""
        return len(self.sizes[0]) * len(self.ratios if self.shapes is None else self.shapes)

    def per_level(
        self, map_shapes: Sequence[_Shape], image_shape: _Shape | None = None
    ) -> tuple[Float[np.ndarray, "_ 4"], ...]:
        """The anchors of each map, ordered by row, column, and anchor of the cell.

        Args:
            map_shapes: Rows and columns of the maps, one for each level.
            image_shape: Height and width of the padded image, which gives the strides if
                `strides` is None.

        Returns:
            ``xyxy`` in pixels, float32; anchors may extend beyond the image.

        Raises:
            ValueError: If the number of maps is not the number of levels, or there are neither
                strides nor a shape of the image.
        """
        if len(map_shapes) != len(self.sizes):
            raise ValueError(f"{len(map_shapes)} maps for anchors of {len(self.sizes)} levels")
        found = []
        for level, (rows, columns) in enumerate(map_shapes):
            stride_y, stride_x = self._strides(level, (rows, columns), image_shape)
            x, y = np.meshgrid(
                (np.arange(columns) + self.offset) * stride_x,
                (np.arange(rows) + self.offset) * stride_y,
            )
            centres = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
            boxes = centres + self._cell(level, stride_x)
            found.append(boxes.reshape(-1, 4).astype(np.float32))
        return tuple(found)

    def _strides(
        self, level: int, map_shape: _Shape, image_shape: _Shape | None
    ) -> tuple[_Number, _Number]:
        """Vertical and horizontal stride of a level."""
        if self.strides is not None:
            return self.strides[level], self.strides[level]
        if image_shape is None:
            raise ValueError("anchors without strides need the shape of the padded image")
        return image_shape[0] // map_shape[0], image_shape[1] // map_shape[1]

    def _cell(self, level: int, stride: _Number) -> Float[np.ndarray, "k 4"]:
        """The anchors of a cell, relative to its centre."""
        sizes, ratios = np.array(self.sizes[level]), np.array(self.ratios)
        if self.legacy:
            base_width = np.round(stride / np.sqrt(ratios))
            width = base_width[:, None] * sizes / stride  # ratios, sizes
            height = np.round(base_width * ratios)[:, None] * sizes / stride
            middle = (stride - 1) / 2
            half = np.stack([width - 1, height - 1], axis=-1) / 2
        else:
            middle = 0.0
            shapes = np.stack([1 / np.sqrt(ratios), np.sqrt(ratios)], axis=-1)
            shapes = shapes if self.shapes is None else np.array(self.shapes)
            half = shapes[:, None] * sizes[:, None] / 2  # ratios, sizes, (x, y)
        if self.order == "size":
            half = half.swapaxes(0, 1)
        half = half.reshape(-1, 2)
        half = np.round(half) if self.rounded else half
        return np.concatenate([middle - half, middle + half + self.far_edge], axis=1)
