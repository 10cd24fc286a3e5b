"""The default boxes of SSD (arXiv 1512.02325, section 2.2).

Their sizes are shares of the image, and levels may have different numbers of shapes; see
`zoo.ops.anchors` for the anchors of other detectors.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

_Shape = tuple[int, int]
_Number = int | float


@dataclasses.dataclass(frozen=True)
class PriorBoxes:
    """Sizes, shapes and places of default boxes, as torchvision has them.

    >>> boxes = PriorBoxes(scales=(0.2, 0.8), ratios=((),))
    >>> boxes.per_level([(1, 2)], (10, 20))[0][0].tolist()
    [3.0, 4.0, 7.0, 6.0]

    Attributes:
        scales: Side of the square box of each level, finest first, and of a level after the last,
            as shares of the image's height and width.
        ratios: Width / height of the further boxes of each level, above 1; of each there is also
            the box with width and height exchanged.
        steps: Pixels from one cell to the next, for each level; None: the size of the image divided
            by that of the map.

    Raises:
        ValueError: If the numbers of levels differ.
    """

    scales: tuple[_Number, ...]
    ratios: tuple[tuple[_Number, ...], ...]
    steps: tuple[_Number, ...] | None = None

    def __post_init__(self) -> None:
        levels = len(self.ratios)
        if len(self.scales) != levels + 1 or len(self.steps or self.ratios) != levels:
            raise ValueError(
                f"{levels} levels of ratios need {levels + 1} scales and {levels} steps, got"
                f" {self.scales} and {self.steps}"
            )

    @property
    def num_per_cell(self) -> tuple[int, ...]:
        """Boxes at each cell of each map."""
        return tuple(2 + 2 * len(ratios) for ratios in self.ratios)

    def per_level(
        self, map_shapes: Sequence[_Shape], image_shape: _Shape
    ) -> tuple[Float[np.ndarray, "_ 4"], ...]:
        """The boxes of each map, ordered by row, column, and box of the cell.

        A cell has the square box, a square one between it and that of the next level, and two of
        each ratio, the wide one first. Widths and heights are at most those of the image.

        Args:
            map_shapes: Rows and columns of the maps, one for each level.
            image_shape: Height and width of the images in pixels.

        Returns:
            ``xyxy`` in pixels, float32; boxes may extend beyond the image.
        """
        height, width = image_shape
        found = []
        for level, (rows, columns) in enumerate(map_shapes):
            step_y = step_x = self.steps[level] if self.steps else None
            x, y = np.meshgrid(
                (np.arange(columns) + 0.5) * (step_x or width / columns),
                (np.arange(rows) + 0.5) * (step_y or height / rows),
            )
            centres = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
            half = self._shares(level) * [width, height] / 2
            boxes = centres + np.concatenate([-half, half], axis=1)
            found.append(boxes.reshape(-1, 4).astype(np.float32))
        return tuple(found)

    def _shares(self, level: int) -> Float[np.ndarray, "k 2"]:
        """Widths and heights of the boxes of a cell, as shares of the image, at most 1."""
        side, larger = self.scales[level], self.scales[level + 1]
        shares = [(side, side), (math.sqrt(side * larger),) * 2]
        for ratio in self.ratios[level]:
            wide, narrow = side * math.sqrt(ratio), side / math.sqrt(ratio)
            shares += [(wide, narrow), (narrow, wide)]
        return np.minimum(np.array(shares), 1)
