"""A model's coarse masks of objects, at the size of the image."""

import cv2
import numpy as np
from jaxtyping import Bool, Float

Size = tuple[int, int]


def full_size_masks(
    logits: Float[np.ndarray, "n rows columns"], canvas: Size, size: Size, original_size: Size
) -> Bool[np.ndarray, "n h w"]:
    """Masks of one image's objects, in the pixels of the image as it was before it was resized.

    As the ``PostProcessSegm`` of DETR's authors: the logits are interpolated to the padded input, a
    pixel whose probability is above a half belongs to the object, the padding is cut off, and what
    is left goes to the original size by the nearest pixel.

    >>> logits = np.array([[[9.0, -9.0], [9.0, -9.0]]])
    >>> full_size_masks(logits, canvas=(4, 4), size=(2, 4), original_size=(1, 2)).tolist()
    [[[True, False]]]

    Args:
        logits: What the model gives for the padded input, at a coarser stride.
        canvas: Height and width of the padded input.
        size: Of the image in it, at its top left.
        original_size: Of the image before it was resized; h and w of the result.
    """
    masks = np.zeros((len(logits), *original_size), bool)
    for mask, coarse in zip(masks, logits, strict=True):
        fine = cv2.resize(coarse.astype(np.float32), canvas[::-1], interpolation=cv2.INTER_LINEAR)
        inside = (fine[: size[0], : size[1]] > 0).astype(np.uint8)
        mask[:] = cv2.resize(inside, original_size[::-1], interpolation=cv2.INTER_NEAREST)
    return masks
