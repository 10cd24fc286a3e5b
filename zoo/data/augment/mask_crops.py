"""Masks of objects as small crops in the objects' own boxes.

Bitmaps of whole images need much memory: 100 objects of 800 x 1344 pixels 108 MB, as crops of
112 x 112 cells 1.3 MB. A cell has the share of its area that belongs to the object, so that a
target resampled from the crop is nearly that of the bitmap, for objects larger than the crop, too.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from zoo.data.augment.picture import Picture


def with_mask_crops(picture: Picture, size: int) -> Picture:
    """The picture with `size` x `size` cells of each mask in its box, instead of the masks."""
    if picture.masks is None:
        return picture
    crops = crop_masks(picture.masks, picture.boxes, size)
    return dataclasses.replace(picture, masks=None, mask_crops=crops)


def crop_masks(
    masks: Bool[np.ndarray, "n h w"], boxes: Float32[np.ndarray, "n 4"], size: int
) -> UInt8[np.ndarray, "n s s"]:
    """The share of each cell's area that is in the mask, 255 for all of it.

    >>> mask = np.array([[[True, False], [True, False]]])
    >>> crop_masks(mask, np.array([[0.0, 0.0, 1.5, 2.0]], np.float32), 2).tolist()
    [[[255, 85], [255, 85]]]

    Args:
        masks: Of an image's objects.
        boxes: ``xyxy`` in pixels of the image, within it and not degenerate; the part of a mask
            outside its box is left out.
        size: Rows and columns of cells in a box, s.
    """
    crops = np.zeros((len(masks), size, size), np.uint8)
    for crop, mask, (left, top, right, bottom) in zip(
        crops, masks, boxes.astype(float).tolist(), strict=True
    ):
        rows, weigh_rows = _shares(top, bottom, size, mask.shape[0])
        columns, weigh_columns = _shares(left, right, size, mask.shape[1])
        part = mask[rows, columns].astype(np.float32)
        crop[:] = np.rint(255 * (weigh_rows @ part @ weigh_columns.T))
    return crops


def _shares(
    low: float, high: float, cells: int, length: int
) -> tuple[slice, Float32[np.ndarray, "cells pixels"]]:
    """The pixels along an axis that an interval touches, and their share in each of its cells."""
    first, last = int(np.floor(low)), min(int(np.ceil(high)), length)
    edges = np.linspace(low, high, cells + 1)[:, None]
    pixels: Int[np.ndarray, " pixels"] = np.arange(first, last)
    starts, ends = np.maximum(edges[:-1], pixels), np.minimum(edges[1:], pixels + 1)
    covered: Float[np.ndarray, "cells pixels"] = np.maximum(ends - starts, 0)
    return slice(first, last), (covered * (cells / (high - low))).astype(np.float32)
