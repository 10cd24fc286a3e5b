"""Masks of things and of stuff, merged into one map of segments."""

from collections.abc import Collection
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int, Integer
from PIL import Image

Size = tuple[int, int]


class Segments(NamedTuple):
    """A panoptic segmentation: every pixel belongs to one segment, if there are any.

    Attributes:
        ids: Of each pixel, the number of its segment: 1 for the first of `labels`, and so on; 0
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
    """One image's masks as segments that do not overlap, in the pixels of the original image.

    As the ``PostProcessPanoptic`` of DETR's authors (arXiv 2005.12872, section 4.4): a pixel
    belongs to the mask of the highest logit among those whose class is likely enough. Masks of one
    class of stuff count as the first of them. Masks with too few pixels are dropped, and the pixels
    shared out again among those that are left, until none is too small; as in the reference, the
    second mask of a class of stuff is dropped by this, too, and its pixels go to the likeliest of
    the others.

    >>> logits = np.array([[[9.0, 8.0, -9.0, -9.0]], [[-9.0, -9.0, 9.0, 8.0]]]).repeat(4, axis=1)
    >>> labels, scores = np.array([7, 3]), np.array([0.9, 0.95])
    >>> merge_masks(logits, labels, scores, {7}, (4, 4), (4, 4), (4, 4)).ids[0].tolist()
    [1, 1, 2, 2]

    Args:
        logits: What the model gives for the padded input, at a coarser stride.
        labels: Likeliest class of each mask.
        scores: Its probability, among classes and no-object.
        things: Classes each of whose masks is an object of its own; the others are stuff.
        canvas: Height and width of the padded input.
        size: Of the image in it, at its top left.
        original_size: Of the image before it was resized; h and w of the result.
        threshold: Masks with a score of at most this are left out; at least 0.5, so that a class
            that passes is likelier than no object.
        least_area: In pixels of the original image.
    """
    likely = scores > threshold
    labels, scores = labels[likely], scores[likely]
    fine = np.zeros((len(labels), *size), np.float32)
    for mask, coarse in zip(fine, logits[likely].astype(np.float32), strict=True):
        mask[:] = cv2.resize(coarse, canvas[::-1])[: size[0], : size[1]]

    classes = labels.tolist()
    kept = np.arange(len(classes), dtype=np.int32)
    owners = np.array(  # of the pixels of each mask that is kept
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
    """By PIL, whose nearest pixel is not OpenCV's; the reference's."""
    return np.asarray(Image.fromarray(ids).resize((size[1], size[0]), Image.Resampling.NEAREST))
