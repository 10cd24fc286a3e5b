"""Merges masks of things and of stuff into one map of segments."""

from collections.abc import Collection
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int, Integer
from PIL import Image

Size = tuple[int, int]


class Segments(NamedTuple):
    """A panoptic segmentation: every pixel belongs to one segment, if any segment was found.

    Attributes:
        ids: Number of the segment of each pixel: 1 for the first of `labels`, and so on; 0
            everywhere if nothing was found.
        labels: Class of each segment.
        scores: Probability of that class.
    """

    ids: Int[np.ndarray, "h w"]
    labels: Integer[np.ndarray, " s"]
    scores: Float[np.ndarray, " s"]


def merge_masks(
    logits: Float[np.ndarray, "n rows columns"],
    labels: Integer[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    things: Collection[int],
    canvas: Size,
    size: Size,
    original_size: Size,
    *,
    threshold: float = 0.85,
    least_area: int = 5,
) -> Segments:
    """Merges one image's masks to segments that do not overlap, in pixels of the original image.

    As the ``PostProcessPanoptic`` of DETR's authors (arXiv 2005.12872, section 4.4): a pixel
    belongs to the mask with the highest logit among the masks whose class is likely enough. All
    masks of one class of stuff count as the first of them. Masks with too few pixels are dropped
    and their pixels are given to the remaining masks, until no mask is too small. As in the
    reference, this drops the second and later masks of a class of stuff as well; their pixels go
    to the mask with the highest logit among the others.

    >>> logits = np.array([[[9.0, 8.0, -9.0, -9.0]], [[-9.0, -9.0, 9.0, 8.0]]]).repeat(4, axis=1)
    >>> labels, scores = np.array([7, 3]), np.array([0.9, 0.95])
    >>> merge_masks(logits, labels, scores, {7}, (4, 4), (4, 4), (4, 4)).ids[0].tolist()
    [1, 1, 2, 2]

    Args:
        logits: The model's mask logits for the padded input, at a coarser stride.
        labels: Most likely class of each mask.
        scores: Probability of that class, among all classes and no-object.
        things: Classes in which every mask is a separate object; the others are stuff.
        canvas: Height and width of the padded input.
        size: Height and width of the image in it, which is at its top left.
        original_size: Height and width of the image before it was resized; h and w of the result.
        threshold: Masks with this score or a lower one are left out; at least 0.5, so that every
            class that is kept is likelier than no-object.
        least_area: Smallest area of a segment, in pixels of the original image.
    """
    likely = scores > threshold
    labels, scores = labels[likely], scores[likely]
    fine = np.zeros((len(labels), *size), np.float32)
    for mask, coarse in zip(fine, logits[likely].astype(np.float32), strict=True):
        mask[:] = cv2.resize(coarse, canvas[::-1])[: size[0], : size[1]]

    classes = labels.tolist()
    kept = np.arange(len(classes), dtype=np.int32)
    owners = np.array(  # the mask that the pixels of each kept mask are given to
        [k if label in things else classes.index(label) for k, label in enumerate(classes)],
        np.int32,
    )
    while len(kept):
        positions = _resize_nearest(owners[fine[kept].argmax(axis=0)], original_size)
        areas = np.bincount(positions.ravel(), minlength=len(classes))[kept]
        if (areas >= least_area).all():
            ids = np.searchsorted(kept, positions).astype(np.int32) + 1
            return Segments(ids, labels[kept], scores[kept])
        kept = owners = kept[areas >= least_area]
    return Segments(np.zeros(original_size, np.int32), labels[:0], scores[:0])


def _resize_nearest(ids: Int[np.ndarray, "h w"], size: Size) -> Int[np.ndarray, "rows columns"]:
    """Resizes with PIL, as the reference does; OpenCV chooses other nearest pixels."""
    return np.asarray(Image.fromarray(ids).resize((size[1], size[0]), Image.Resampling.NEAREST))
