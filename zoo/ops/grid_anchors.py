"""Anchors of grids: boxes of given widths and heights in the middle of every cell (YOLO v2, v3)."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from zoo.types import InputError

Sides = tuple[int | float, int | float]  # width, height


@dataclasses.dataclass(frozen=True)
class GridAnchors:
    """The anchors of all levels; a level has the same in each of its cells.

    >>> grid = GridAnchors(sizes=(((8.0, 6.0),),), strides=(4,))
    >>> grid.per_level([(1, 2)])[0].tolist()
    [[-2.0, -1.0, 6.0, 5.0], [2.0, -1.0, 10.0, 5.0]]

    Attributes:
        sizes: Widths and heights of the anchors of a cell in pixels, for each level.
        strides: Height and width of a cell of each level in pixels.

    Raises:
        InputError: If the numbers of levels differ, or a size or a stride is not positive.
    """

    sizes: tuple[tuple[Sides, ...], ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.strides):
            raise InputError(f"anchors: {len(self.sizes)} levels of sizes, {self.strides} strides")
        numbers = [side for level in self.sizes for pair in level for side in pair]
        if min([*numbers, *self.strides]) <= 0:
            raise InputError(f"anchors: sizes and strides must be positive: {self}")

    @property
    def num_per_cell(self) -> tuple[int, ...]:
        """Anchors of a cell, for each level."""
        return tuple(map(len, self.sizes))

    def flat_sizes(self) -> Float[np.ndarray, "n 2"]:
        """Width and height of every anchor of a cell, of all levels."""
        return np.array([pair for level in self.sizes for pair in level], np.float32)

    def per_level(self, shapes: Sequence[tuple[int, int]]) -> list[Float[np.ndarray, "_ 4"]]:
        """The anchors of each level: by row, column, and anchor of the cell.

        Args:
            shapes: Rows and columns of each level.

        Returns:
            ``xyxy`` in pixels; not clipped.
        """
        levels = []
        for (rows, columns), pairs, stride in zip(shapes, self.sizes, self.strides, strict=True):
            y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
            centres = (np.stack([x, y], axis=-1)[:, :, None] + 0.5) * stride  # rows columns 1 2
            half = np.array(pairs, np.float32) / 2
            boxes = np.concatenate([centres - half, centres + half], axis=-1)
            levels.append(boxes.reshape(-1, 4).astype(np.float32))
        return levels
