"""Cuts large images into overlapping windows, and joins the outputs of the windows.

The overlap-tile strategy of the U-Net paper (arXiv 1505.04597, figure 2), on the host. Images are
mirrored at their borders. Windows begin at multiples of the model's stride, so that a model with
valid convolutions gives the same outputs as on the whole mirrored image. For other models, whose
outputs are worse at a window's edge, each pixel is taken from the window whose centre is nearest.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Shaped


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How images are cut into windows.

    Attributes:
        size: Height and width of a window, in pixels.
        margin: Pixels at each side of a window that have no output.
        overlap: Least number of pixels that the outputs of neighbouring windows share.
        multiple: Windows begin at multiples of this, in pixels.
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
        """Top and left pixel of each window's output in an image of that size, row by row."""
        rows, columns = (
            _offsets(length, output, self.overlap, self.multiple)
            for length, output in zip((height, width), self.outputs, strict=True)
        )
        return [(top, left) for top in rows for left in columns]


def _offsets(length: int, output: int, overlap: int, multiple: int) -> list[int]:
    """The fewest offsets that cover a length, evenly spaced.

    The last output ends at the end of the length, or less than `multiple` beyond it.

    >>> _offsets(100, 64, 16, 8)
    [0, 40]
    """
    last = -(-max(length - output, 0) // multiple)  # counted in multiples, as are the next values
    step = (output - overlap) // multiple
    count = -(-last // step) + 1
    return [last * i // max(count - 1, 1) * multiple for i in range(count)]


def cut_tiles(
    image: Shaped[np.ndarray, "h w *c"], tiling: Tiling
) -> Shaped[np.ndarray, "n th tw *c"]:
    """The windows of an image of any size, in the order of `Tiling.offsets`.

    The image is mirrored at its borders, without repeating the outermost pixels.
    """
    offsets = tiling.offsets(*image.shape[:2])
    last, margin = offsets[-1], tiling.margin
    missing = [
        (margin, last[axis] + tiling.size[axis] - margin - image.shape[axis]) for axis in (0, 1)
    ]
    # Part of the last window's far margin may lie inside the image.
    rest = [(0, 0)] * (image.ndim - 2)
    padded = np.pad(image, [*((a, max(b, 0)) for a, b in missing), *rest], mode="reflect")
    height, width = tiling.size
    return np.stack([padded[y : y + height, x : x + width] for y, x in offsets])


def join_tiles(
    outputs: Shaped[np.ndarray, "n oh ow *k"], tiling: Tiling, height: int, width: int
) -> Shaped[np.ndarray, "h w *k"]:
    """Joins the outputs of the windows of `cut_tiles` to one output of (height, width) pixels.

    Where two windows overlap, each gives the half that is nearer to it.
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
    """Start and end of the part of an axis that is taken from the windows at each offset."""
    middles = [(a + output + b) // 2 for a, b in itertools.pairwise(offsets)]
    starts, ends = [0, *middles], [*middles, length]
    return dict(zip(offsets, zip(starts, ends, strict=True), strict=True))
