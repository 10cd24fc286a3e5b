"""Colours for label maps and boxes."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8

_LEAST_SIDE = 320  # smallest side of a picture with text on it, in pixels
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def palette(count: int) -> UInt8[np.ndarray, "n 3"]:
    """Colours of labels 0, 1, ..., as PASCAL VOC's: black, dark red, dark green, ...

    Each group of three bits of a label gives one bit of red, green and blue; the lowest group
    gives their highest bits.

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
    """The image blended with the colours of its labels; label 0 is transparent.

    Args:
        image: The picture.
        labels: Label of each of its pixels.
        opacity: Weight of the colour, in 0..1.
    """
    colours = palette(int(labels.max(initial=0)) + 1)[labels]
    blended = np.rint((1 - opacity) * image + opacity * colours).astype(np.uint8)
    return np.where(labels[..., None] > 0, blended, image)


def paint_objects(
    image: UInt8[np.ndarray, "h w 3"],
    masks: Bool[np.ndarray, "n h w"],
    labels: Integer[np.ndarray, " n"],
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with objects in the colours of their labels, the same as in `draw_objects`.

    Args:
        image: The picture.
        masks: Each object's pixels; the first is on top.
        labels: Class of each object.
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
    keypoints: Float[np.ndarray, "n j 3"] | None = None,
    skeleton: Sequence[tuple[int, int]] = (),
) -> UInt8[np.ndarray, "rows columns 3"]:
    """The image with boxes in the colours of their labels and a text above each box.

    A small image is enlarged by a whole factor, so that the texts can be read.

    Args:
        image: The picture.
        boxes: ``xyxy`` in its pixels; the first is drawn on top.
        labels: Class of each object.
        texts: One for each box.
        masks: Each object's pixels, which are coloured as well; the first is on top.
        keypoints: x, y in pixels of the image, and a number that is above 0 for the joints to draw.
        skeleton: Pairs of joints, which are joined by a line if both are drawn.
    """
    if masks is not None:
        image = paint_objects(image, masks, labels)
    picture, factor = _enlarge(image)
    colours = palette(int(labels.max(initial=0)) + 2)[1:]  # no box is black
    _, thickness = _pen(picture)
    for box, label, text in reversed(list(zip(boxes, labels, texts, strict=True))):
        colour = colours[label]
        left, top, right, bottom = (round(float(side) * factor) for side in box)
        corners = (left, top), (right - 1, bottom - 1)
        cv2.rectangle(picture, *corners, colour.tolist(), thickness)
        _write(picture, text, left, top, colour)
    for joints in () if keypoints is None else keypoints[::-1]:
        _draw_joints(picture, joints, skeleton, factor)
    return picture


def _draw_joints(
    picture: UInt8[np.ndarray, "h w 3"],
    joints: Float[np.ndarray, "j 3"],
    skeleton: Sequence[tuple[int, int]],
    factor: int,
) -> None:
    """Draws one object's limbs, each in its own colour, and its joints, which are white."""
    _, thickness = _pen(picture)
    places = np.rint(joints[:, :2] * factor).astype(int).tolist()
    shown = joints[:, 2] > 0
    colours = palette(len(skeleton) + 9)[9:].tolist()  # the first ones are those of boxes
    for (first, second), colour in zip(skeleton, colours, strict=True):
        if shown[first] and shown[second]:
            ends = places[first], places[second]
            cv2.line(picture, *ends, colour, thickness, cv2.LINE_AA)
    for joint in np.flatnonzero(shown).tolist():
        cv2.circle(picture, places[joint], 2 * thickness, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
        cv2.circle(picture, places[joint], 2 * thickness, (0, 0, 0), 1, cv2.LINE_AA)


def draw_segments(
    image: UInt8[np.ndarray, "h w 3"],
    ids: Integer[np.ndarray, "h w"],
    labels: Integer[np.ndarray, " n"],
    texts: Sequence[str],
) -> UInt8[np.ndarray, "rows columns 3"]:
    """The image with segments in the colours of their labels, white lines between them, and texts.

    A small image is enlarged by a whole factor, so that the texts can be read.

    Args:
        image: The picture.
        ids: Number of the segment of each pixel, from 1; 0 is transparent.
        labels: Class of each segment.
        texts: One for each segment.
    """
    classes = np.append(0, labels + 1)
    picture, factor = _enlarge(overlay(image, classes[ids], opacity=0.5))
    large = np.pad(ids.repeat(factor, axis=0).repeat(factor, axis=1), (0, 1), mode="edge")
    here = large[:-1, :-1]
    picture[(here != large[1:, :-1]) | (here != large[:-1, 1:])] = 255
    colours = palette(int(classes.max()) + 1)
    for number, (label, text) in enumerate(zip(classes[1:], texts, strict=True), start=1):
        inside = np.pad(here == number, 1).astype(np.uint8)
        depths = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_3)[1:-1, 1:-1]
        y, x = np.unravel_index(depths.argmax(), depths.shape)
        _write(picture, text, int(x), int(y), colours[label], centred=True)
    return picture


def _enlarge(image: UInt8[np.ndarray, "h w 3"]) -> tuple[UInt8[np.ndarray, "rows columns 3"], int]:
    """A copy that is large enough for texts, and the factor by which it is larger."""
    factor = -(-_LEAST_SIDE // max(min(image.shape[:2]), 1))
    return np.ascontiguousarray(image.repeat(factor, axis=0).repeat(factor, axis=1)), factor


def _pen(picture: UInt8[np.ndarray, "h w 3"]) -> tuple[float, int]:
    """Font scale of a picture's texts, and thickness of its lines."""
    size = max(min(picture.shape[:2]) / 1000, 0.45)
    return size, max(round(2 * size), 1)


def _write(
    picture: UInt8[np.ndarray, "h w 3"],
    text: str,
    x: int,
    y: int,
    colour: UInt8[np.ndarray, "3"],
    *,
    centred: bool = False,
) -> None:
    """Writes a text on a coloured rectangle above (x, y), moved so that it lies in the picture.

    The text starts at x, or is `centred` on it.
    """
    size, thickness = _pen(picture)
    (width, height), below = cv2.getTextSize(text, _FONT, size, thickness)
    x = min(max(x - width // 2 if centred else x, 0), max(picture.shape[1] - width, 0))
    y = max(y, height + below)
    cv2.rectangle(picture, (x, y - height - below), (x + width, y), colour.tolist(), cv2.FILLED)
    ink = (0, 0, 0) if colour.sum() > 382 else (255, 255, 255)
    cv2.putText(picture, text, (x, y - below), _FONT, size, ink, thickness, cv2.LINE_AA)
