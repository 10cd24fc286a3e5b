"""Transforms that move an image's boxes, masks and label map along with it.

Each takes a `Picture` and returns another, and changes all of its parts alike. Coordinates are
continuous: pixel (0, 0) covers 0..1, so a box that encloses a mask encloses the moved mask, exactly
when flipped or cropped, and within a pixel when resized.
"""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from zoo.data.transforms import HostImage, fast_resize, resize

Size = tuple[int, int]  # height, width


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image and what is annotated on it: objects, or the class of each pixel, or neither.

    Attributes:
        image: The pixels.
        boxes: ``xyxy`` in pixels, one an object.
        labels: The objects' classes.
        masks: The objects' pixels; None for objects without.
        label_map: The class of each pixel; None for images without.
    """

    image: HostImage
    boxes: Float32[np.ndarray, "n 4"] = dataclasses.field(
        default_factory=lambda: np.zeros((0, 4), np.float32)
    )
    labels: Int32[np.ndarray, " n"] = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.int32)
    )
    masks: Bool[np.ndarray, "n h w"] | None = None
    label_map: UInt8[np.ndarray, "h w"] | None = None

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]


def select(picture: Picture, objects: np.ndarray) -> Picture:
    """The picture with the objects that an integer index or a boolean mask selects."""
    return dataclasses.replace(
        picture,
        boxes=picture.boxes[objects],
        labels=picture.labels[objects],
        masks=None if picture.masks is None else picture.masks[objects],
    )


def clip_boxes(picture: Picture) -> Picture:
    """Cuts boxes off at the image's edges; objects whose box has no area left are dropped."""
    height, width = picture.size
    edges = np.array([width, height, width, height], np.float32)
    boxes = np.clip(picture.boxes, 0, edges)
    kept = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    return select(dataclasses.replace(picture, boxes=boxes), kept)


def flip(picture: Picture) -> Picture:
    """Mirrors left and right."""
    width = picture.size[1]
    left, top, right, bottom = picture.boxes.T
    return dataclasses.replace(
        picture,
        image=picture.image[:, ::-1],
        boxes=np.stack([width - right, top, width - left, bottom], axis=1),
        masks=None if picture.masks is None else picture.masks[..., ::-1],
        label_map=None if picture.label_map is None else picture.label_map[:, ::-1],
    )


def resize_picture(picture: Picture, size: Size, *, fast: bool = False) -> Picture:
    """Resizes to (height, width): the image bilinearly, masks and label map to nearest pixels.

    Args:
        picture: What to resize.
        size: Height and width of the result.
        fast: With OpenCV, as training does, instead of Pillow's antialiased filter.
    """
    if picture.size == size:
        return picture
    # Multiplied before divided, an edge of the image stays one.
    after, before = (
        np.array([width, height] * 2, np.float32) for height, width in (size, picture.size)
    )
    return dataclasses.replace(
        picture,
        image=(fast_resize if fast else resize)(picture.image, size, "bilinear"),
        boxes=picture.boxes * after / before,
        masks=None if picture.masks is None else _nearest_masks(picture.masks, size),
        label_map=None if picture.label_map is None else _nearest(picture.label_map, size),
    )


def _nearest(plane: UInt8[np.ndarray, "h w"], size: Size) -> UInt8[np.ndarray, "h w"]:
    """The value at the centre of each new pixel, which stays in place; INTER_NEAREST is off it."""
    return cv2.resize(plane, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def _nearest_masks(masks: Bool[np.ndarray, "n h w"], size: Size) -> Bool[np.ndarray, "n h w"]:
    resized = np.zeros((len(masks), *size), bool)
    for mask, result in zip(masks, resized, strict=True):
        result[:] = _nearest(np.ascontiguousarray(mask).view(np.uint8), size)
    return resized


def crop(picture: Picture, top: int, left: int, height: int, width: int) -> Picture:
    """Cuts out a part that lies inside; objects whose box is wholly outside are dropped."""
    rows, columns = slice(top, top + height), slice(left, left + width)
    cut = dataclasses.replace(
        picture,
        image=picture.image[rows, columns],
        boxes=picture.boxes - np.array([left, top, left, top], np.float32),
        masks=None if picture.masks is None else picture.masks[:, rows, columns],
        label_map=None if picture.label_map is None else picture.label_map[rows, columns],
    )
    return clip_boxes(cut)


def random_crop(picture: Picture, sides: tuple[int, int], rng: np.random.Generator) -> Picture:
    """A part whose height and width are drawn from `sides`, the least and the largest.

    Sides are no longer than the image's own, and an image that is smaller than the least is kept
    whole there.
    """
    (top, height), (left, width) = (_random_span(have, sides, rng) for have in picture.size)
    return crop(picture, top, left, height, width)


def _random_span(have: int, sides: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Start and length of a part of 0..have."""
    length = int(rng.integers(min(sides[0], have), min(sides[1], have) + 1))
    return int(rng.integers(have - length + 1)), length


def fit_size(size: Size, short_side: int, long_side: int) -> Size:
    """The size at which the shorter side is `short_side`, unless the longer would be too long.

    Rounds as DETR's transforms do: towards zero, though the longer side may come out one too long.
    """
    shorter, longer = min(size), max(size)
    if longer / shorter * short_side > long_side:
        short_side = round(long_side * shorter / longer)
    short_side = max(1, short_side)
    height, width = size
    if height <= width:
        return short_side, int(short_side * width / height)
    return int(short_side * height / width), short_side


def shrink_to_fit(size: Size, box: Size) -> Size:
    """The size, or if it exceeds the box, the largest of the same aspect that does not."""
    ratio = min(box[0] / size[0], box[1] / size[1], 1.0)
    return max(1, min(round(size[0] * ratio), box[0])), max(1, min(round(size[1] * ratio), box[1]))
