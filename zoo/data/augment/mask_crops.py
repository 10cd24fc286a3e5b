"""Masks of objects as small crops in the objects' own boxes.

Bitmaps of whole images need much memory: 100 objects of 800 x 1344 pixels 108 MB, as crops of
112 x 112 cells 1.3 MB. A cell has the share of its area that belongs to the object, as a byte, so
that a target resampled from the crop is nearly that of the bitmap: of 28 x 28 binary cells, for
polygons with a radius of 30 and 150 pixels, 0.6% and 0.1% differ; with bits, 0.7% and 0.3%.
"""

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from zoo.ops.rle import Masks


def crop_masks(
    masks: Masks, boxes: Float32[np.ndarray, "n 4"], size: int
) -> UInt8[np.ndarray, "n s s"]:
    """The share of each cell's area that is in the mask, 255 for all of it.

    Args:
        masks: Of an image's objects.
        boxes: ``xyxy`` in pixels of the image, within it; the part of a mask outside its box is
            left out. A degenerate one has an empty crop.
        size: Rows and columns of cells in a box, s.
    """
    crops = np.zeros((len(masks), size, size), np.uint8)
    for i, (left, top, right, bottom) in enumerate(boxes.astype(float).tolist()):
        if right <= left or bottom <= top:
            continue
        (column, after), (row, below) = _pixels(left, right), _pixels(top, bottom)
        part = masks.columns(i, column, after)[row:below]
        table = cv2.integral(np.ascontiguousarray(part).view(np.uint8))  # sums above and left
        table = _between(table, np.linspace(top - row, bottom - row, size + 1))
        table = _between(table.T, np.linspace(left - column, right - column, size + 1)).T
        cell = (right - left) * (bottom - top) / size**2
        crops[i] = np.rint(255 * np.diff(np.diff(table, axis=0), axis=1) / cell)
    return crops


def _pixels(low: float, high: float) -> tuple[int, int]:
    """The first pixel that an interval touches, and the one after the last."""
    return int(np.floor(low)), int(np.ceil(high))


def _between(
    rows: Float[np.ndarray, "n m"], places: Float[np.ndarray, " k"]
) -> Float[np.ndarray, "k m"]:
    """The rows at places between whole numbers, by linear interpolation."""
    low = np.clip(places.astype(int), 0, len(rows) - 2)
    share = (places - low)[:, None]
    return rows[low] * (1 - share) + rows[low + 1] * share
