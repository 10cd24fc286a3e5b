"""Colours for label maps and boxes."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8

_LEAST_SIDE = 320  # of a picture with text on it, in pixels


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


def paint_objects(
    image: UInt8[np.ndarray, "h w 3"],
    masks: Bool[np.ndarray, "n h w"],
    labels: Integer[np.ndarray, " n"],
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with objects in the colours of their labels, as `draw_objects` has them.

    Args:
        image: The picture.
        masks: Each object's pixels; the first is on top.
        labels: Numbers of classes.
    """
    shown = np.zeros(image.shape[:2], np.int64)
    for mask, label in reversed(list(zip(masks, labels, strict=True))):
        shown[mask] = label + 1
    return overlay(image, shown, opacity=0.4)


def draw_objects(
    image: UInt8[np.ndarray, "h w 3"],
    boxes: Float[np.ndarray, "n 4"],
    labels: Integer[np.ndarray, " n"],
    texts: Sequence[str],
    masks: Bool[np.ndarray, "n h w"] | None = None,
) -> UInt8[np.ndarray, "rows columns 3"]:
    """The image with boxes in the colours of their labels, a text above each.

    A small image is enlarged by a whole number, so that the texts can be read.

    Args:
        image: The picture.
        boxes: ``xyxy`` in its pixels; the first is drawn on top.
        labels: Numbers of classes.
        texts: One a box.
        masks: Each object's pixels, which are coloured, too; the first is on top.
    """
    if masks is not None:
        image = paint_objects(image, masks, labels)
    factor = -(-_LEAST_SIDE // max(min(image.shape[:2]), 1))
    picture = np.ascontiguousarray(image.repeat(factor, axis=0).repeat(factor, axis=1))
    colours = palette(int(labels.max(initial=0)) + 2)[1:]  # no box is black
    font, size = cv2.FONT_HERSHEY_SIMPLEX, max(min(picture.shape[:2]) / 1000, 0.45)
    thickness = max(round(2 * size), 1)
    for box, label, text in reversed(list(zip(boxes, labels, texts, strict=True))):
        colour = tuple(int(value) for value in colours[label])
        left, top, right, bottom = (round(float(side) * factor) for side in box)
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), colour, thickness)
        (width, height), below = cv2.getTextSize(text, font, size, thickness)
        x = min(max(left, 0), max(picture.shape[1] - width, 0))
        y = max(top, height + below)
        cv2.rectangle(picture, (x, y - height - below), (x + width, y), colour, cv2.FILLED)
        ink = (0, 0, 0) if sum(colour) > 382 else (255, 255, 255)
        cv2.putText(picture, text, (x, y - below), font, size, ink, thickness, cv2.LINE_AA)
    return picture
