"""Colours for label maps."""

import numpy as np
from jaxtyping import Integer, UInt8


def palette(count: int) -> UInt8[np.ndarray, "n 3"]:
    """Colours of labels 0, 1, ..., as PASCAL VOC's: black, dark red, dark green, ...

    The bits of a label's number, in threes, are the bits of red, green and blue, highest first.

    >>> palette(3).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    labels = np.arange(count)[:, None]
    colours = np.zeros((count, 3), np.int64)
    for place in range(8):
        bits = labels >> (3 * place + np.arange(3)) & 1
        colours |= bits << (7 - place)
    return colours.astype(np.uint8)


def overlay(
    image: UInt8[np.ndarray, "h w 3"], labels: Integer[np.ndarray, "h w"], opacity: float = 0.6
) -> UInt8[np.ndarray, "h w 3"]:
    """The image under the colours of its labels; label 0 is see-through.

    Args:
        image: The picture.
        labels: Label of each of its pixels.
        opacity: Share of the colour, in 0..1.
    """
    colours = palette(int(labels.max(initial=0)) + 1)[labels]
    blended = np.rint((1 - opacity) * image + opacity * colours).astype(np.uint8)
    return np.where(labels[..., None] > 0, blended, image)
