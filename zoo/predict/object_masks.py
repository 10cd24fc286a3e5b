"""The masks of one image's detections in pixels of the original image."""

from typing import Any

import numpy as np
from jaxtyping import Bool

from zoo.ops.instance_masks import (
    Size,
    full_size_masks,
    paste_binary_masks,
    paste_run_lengths,
)
from zoo.ops.rle import Masks, from_arrays


def binary_masks(
    found: Any, canvas: Size, size: Size, original_size: Size
) -> Bool[np.ndarray, "n h w"] | None:
    """True for the pixels of each object; None for a model without masks.

    Args:
        found: The `zoo.outputs.Detections` of one image: numpy arrays without an axis b, boxes in
            pixels of the original image, masks as a family's `decode` returns them.
        canvas: Height and width of the padded input.
        size: Height and width of the image in it, which is at its top left.
        original_size: Height and width of the image before it was resized; h and w of the result.
    """
    if found.mask_crops is not None:
        return paste_binary_masks(found.mask_crops, found.boxes, original_size, found.paste)
    if found.masks is not None:
        return full_size_masks(found.masks, canvas, size, original_size)
    return None


def run_length_masks(found: Any, canvas: Size, size: Size, original_size: Size) -> Masks | None:
    """The masks of `binary_masks` as run lengths; only one of them at a time is an array.

    Args:
        found: As for `binary_masks`.
        canvas: As for `binary_masks`.
        size: As for `binary_masks`.
        original_size: As for `binary_masks`.
    """
    if found.mask_crops is not None:
        return paste_run_lengths(found.mask_crops, found.boxes, original_size, found.paste)
    if found.masks is None:
        return None
    none = from_arrays(np.zeros((0, *original_size), bool))
    one_by_one = (
        from_arrays(full_size_masks(logits[None], canvas, size, original_size))
        for logits in found.masks
    )
    return Masks.concatenate([none, *one_by_one])
