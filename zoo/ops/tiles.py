"""Large images in overlapping windows, mirrored at their borders, and outputs put together.

The overlap-tile strategy of the U-Net paper (arXiv 1505.04597, figure 2), on the host. Windows
begin at multiples of the model's stride, so that a model with valid convolutions gives the same
outputs as on the mirrored image as a whole. For one whose outputs are worse at a window's edge,
each pixel is taken from the window in whose middle it lies most.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Shaped


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How images are cut.

    Attributes:
        size: Height and width of a window, in pixels.
        margin: Pixels at each side of a window that have no output.
        overlap: Pixels that the outputs of neighbours have in common at least.
        multiple: Windows begin at multiples of this.
    """

    size: tuple[int, int]
    margin: int = 0
    overlap: int = 0
    multiple: int = 1

    def __post_init__(self) -> None:
        if min(self.outputs) - self.overlap < self.multiple:
            raise ValueError(
                f"windows of {self.size} px with {self.outputs} px of output cannot overlap by"
                f" {self.overlap} px in steps of {self.multiple} px"
            )

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of a window's output."""
        return self.size[0] - 2 * self.margin, self.size[1] - 2 * self.margin

    def offsets(self, height: int, width: int) -> list[tuple[int, int]]:
        """Top and left of each window's output in an image of that size, row by row."""
        rows, columns = (
            _offsets(length, output, self.overlap, self.multiple)
            for length, output in zip((height, width), self.outputs, strict=True)
        )
        return [(top, left) for top in rows for left in columns]


def _offsets(length: int, output: int, overlap: int, multiple: int) -> list[int]:
    """As few as there can be, evenly spread; the last reaches the end, or less than `multiple` on.

    >>> _offsets(100, 64, 16, 8)
    [0, 40]
    """
    last = -(-max(length - output, 0) // multiple)  # in multiples, as what follows
    step = (output - overlap) // multiple
    count = -(-last // step) + 1
    return [last * i // max(count - 1, 1) * multiple for i in range(count)]


def cut_tiles(
    image: Shaped[np.ndarray, "h w *c"], tiling: Tiling
) -> Shaped[np.ndarray, "n th tw *c"]:
    """The windows of an image of any size, in the order of `Tiling.offsets`.

    Beyond the image's borders it is mirrored, the outermost pixels not repeated.
    """
    offsets = tiling.offsets(*image.shape[:2])
    last, margin = offsets[-1], tiling.margin
    missing = [
        (margin, last[axis] + tiling.size[axis] - margin - image.shape[axis]) for axis in (0, 1)
    ]
    # Of the last window some of the far margin may lie inside the image.
    rest = [(0, 0)] * (image.ndim - 2)
    padded = np.pad(image, [*((a, max(b, 0)) for a, b in missing), *rest], mode="reflect")
    height, width = tiling.size
    return np.stack([padded[y : y + height, x : x + width] for y, x in offsets])


def join_tiles(
    outputs: Shaped[np.ndarray, "n oh ow *k"], tiling: Tiling, height: int, width: int
) -> Shaped[np.ndarray, "h w *k"]:
    """The outputs of the windows of `cut_tiles` as those of an image of (height, width).

    Where windows overlap, each gives its half.
    """
    joined = np.empty((height, width, *outputs.shape[3:]), outputs.dtype)
    offsets = tiling.offsets(height, width)
    rows = _halves(sorted({top for top, _ in offsets}), tiling.outputs[0], height)
    columns = _halves(sorted({left for _, left in offsets}), tiling.outputs[1], width)
    for (top, left), output in zip(offsets, outputs, strict=True):
        (y, y_end), (x, x_end) = rows[top], columns[left]
        joined[y:y_end, x:x_end] = output[y - top : y_end - top, x - left : x_end - left]
    return joined


def _halves(offsets: list[int], output: int, length: int) -> dict[int, tuple[int, int]]:
    """The part of the image that is taken from the windows at each offset."""
    middles = [(a + output + b) // 2 for a, b in itertools.pairwise(offsets)]
    starts, ends = [0, *middles], [*middles, length]
    return dict(zip(offsets, zip(starts, ends, strict=True), strict=True))
