"""Transforms of an image together with its boxes, masks, keypoints, proposals and label map.

Each function takes a `Picture` and returns another, with all of its parts changed in the same way.
Coordinates are continuous: pixel (0, 0) covers 0..1. So a box that encloses a mask also encloses it
after the transform: exactly after a flip or a crop, and within one pixel after a resize. Keypoints
are moved like the corners of boxes.
"""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Shaped, UInt8

from zoo.data.transforms import GREY, HostImage, Size, corner_resize, fast_resize, resize
from zoo.ops.letterbox import letterbox_frames
from zoo.types import IGNORE_LABEL


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image and its annotations: objects, or the class of each pixel, or neither.

    Attributes:
        image: The pixels.
        boxes: ``xyxy`` in pixels, one for each object.
        labels: Class of each object.
        masks: Pixels of each object; None if there are no masks.
        label_map: The class of each pixel; None if there is no label map.
        keypoints: x, y and visibility (0 not labelled, 1 hidden, 2 visible) of the joints of each
            object; None if there are no keypoints. Where visibility is 0, x and y are 0, also after
            a transform.
        proposals: Regions that may hold an object, ``xyxy`` in pixels; None if there are none.
        mask_crops: The mask of each object on a grid over its box, 255 for a cell of which
            all is in the object; None if there are none. They cannot be cut any more.
        ignored: True for objects that are neither targets nor background; None if none is.
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
    keypoints: Float32[np.ndarray, "n j 3"] | None = None
    proposals: Float32[np.ndarray, "r 4"] | None = None
    mask_crops: UInt8[np.ndarray, "n s s"] | None = None
    ignored: Bool[np.ndarray, " n"] | None = None

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]


def select(picture: Picture, objects: Shaped[np.ndarray, " n"]) -> Picture:
    """The picture with the objects that an integer index or a boolean mask selects."""
    names = ("masks", "mask_crops", "ignored", "keypoints")
    there = {name: part for name in names if (part := getattr(picture, name)) is not None}
    return dataclasses.replace(
        picture,
        boxes=picture.boxes[objects],
        labels=picture.labels[objects],
        **{name: part[objects] for name, part in there.items()},
    )


def hide_unlabelled(keypoints: Float32[np.ndarray, "n j 3"]) -> Float32[np.ndarray, "n j 3"]:
    """Sets x and y to 0 where visibility is 0."""
    return np.where(keypoints[..., 2:] > 0, keypoints, 0)


def clip_objects(picture: Picture) -> Picture:
    """Clips boxes to the image, and sets the visibility of joints outside the image to 0.

    Objects, and proposals, whose box has no area left are dropped.
    """
    height, width = picture.size
    edges = np.array([width, height, width, height], np.float32)
    boxes = np.clip(picture.boxes, 0, edges)
    kept = _have_area(boxes)
    proposals = picture.proposals
    if proposals is not None:
        proposals = np.clip(proposals, 0, edges)
        proposals = proposals[_have_area(proposals)]
    keypoints = picture.keypoints
    if keypoints is not None:
        places = keypoints[..., :2]
        inside = np.all((places >= 0) & (places <= edges[:2]), axis=-1, keepdims=True)
        keypoints = hide_unlabelled(np.where(inside, keypoints, 0))
    clipped = dataclasses.replace(picture, boxes=boxes, keypoints=keypoints, proposals=proposals)
    return select(clipped, kept)


def _have_area(boxes: Float32[np.ndarray, "n 4"]) -> Bool[np.ndarray, " n"]:
    return np.all(boxes[:, 2:] > boxes[:, :2], axis=1)


def shift_objects(picture: Picture, left: int, top: int) -> Picture:
    """Moves boxes, proposals and keypoints `left` pixels right and `top` down, not the image."""
    offset = np.array([left, top], np.float32)
    keypoints = picture.keypoints
    if keypoints is not None:
        keypoints = keypoints + np.append(offset, np.float32(0)) * (keypoints[..., 2:] > 0)
    both, proposals = np.tile(offset, 2), picture.proposals
    return dataclasses.replace(
        picture,
        boxes=picture.boxes + both,
        keypoints=keypoints,
        proposals=None if proposals is None else proposals + both,
    )


def flip(picture: Picture, mirrored: Int[np.ndarray, " j"] | None = None) -> Picture:
    """Mirrors left and right.

    Args:
        picture: What to mirror.
        mirrored: For each joint of the result, the position of that joint in the original: see
            `zoo.data.annotations.Joints`. Needed if there are keypoints.

    Raises:
        ValueError: If there are keypoints, and `mirrored` is not given.
    """
    width = picture.size[1]
    keypoints = picture.keypoints
    if keypoints is not None:
        if mirrored is None:
            raise ValueError("to mirror keypoints one must know which joints are left and right")
        x, y, visibility = np.moveaxis(keypoints, -1, 0)
        x = np.where(visibility > 0, width - x, x)
        keypoints = np.stack([x, y, visibility], axis=-1)[:, mirrored]
    return dataclasses.replace(
        picture,
        image=picture.image[:, ::-1],
        boxes=_mirrored(picture.boxes, width),
        masks=None if picture.masks is None else picture.masks[..., ::-1],
        mask_crops=None if picture.mask_crops is None else picture.mask_crops[..., ::-1],
        label_map=None if picture.label_map is None else picture.label_map[:, ::-1],
        keypoints=keypoints,
        proposals=None if picture.proposals is None else _mirrored(picture.proposals, width),
    )


def _mirrored(boxes: Float32[np.ndarray, "n 4"], width: int) -> Float32[np.ndarray, "n 4"]:
    left, top, right, bottom = boxes.T
    return np.stack([width - right, top, width - left, bottom], axis=1)


def resize_picture(
    picture: Picture, size: Size, *, fast: bool = False, image: HostImage | None = None
) -> Picture:
    """Resizes: the image with bilinear interpolation, masks and label map to nearest pixels.

    Args:
        picture: What to resize.
        size: Height and width of the result.
        fast: Whether to use OpenCV, as training does, instead of Pillow's antialiased filter.
        image: The resized image, if there is one already.
    """
    if picture.size == size:
        return picture
    # Multiply first, then divide: a box edge on the edge of the image stays exactly on it.
    after, before = (
        np.array([width, height] * 2, np.float32) for height, width in (size, picture.size)
    )
    if image is None:
        image = (fast_resize if fast else resize)(picture.image, size, "bilinear")
    return dataclasses.replace(
        picture,
        image=image,
        boxes=picture.boxes * after / before,
        masks=None if picture.masks is None else _nearest_masks(picture.masks, size),
        label_map=None if picture.label_map is None else _nearest(picture.label_map, size),
        keypoints=None if picture.keypoints is None else _scaled(picture.keypoints, after, before),
        proposals=None if picture.proposals is None else picture.proposals * after / before,
    )


def _scaled(
    keypoints: Float32[np.ndarray, "n j 3"],
    after: Float32[np.ndarray, " 4"],
    before: Float32[np.ndarray, " 4"],
) -> Float32[np.ndarray, "n j 3"]:
    """Keypoints of an image resized from width and height `before` to `after`."""
    places = keypoints[..., :2] * after[:2] / before[:2]
    return np.concatenate([places, keypoints[..., 2:]], axis=-1)


def _nearest(plane: UInt8[np.ndarray, "h w"], size: Size) -> UInt8[np.ndarray, "h w"]:
    """The value at the centre of each new pixel; INTER_NEAREST would not take the centre."""
    return cv2.resize(plane, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def _nearest_masks(masks: Bool[np.ndarray, "n h w"], size: Size) -> Bool[np.ndarray, "n h w"]:
    resized = np.zeros((len(masks), *size), bool)
    for mask, result in zip(masks, resized, strict=True):
        result[:] = _nearest(np.ascontiguousarray(mask).view(np.uint8), size)
    return resized


def crop(picture: Picture, top: int, left: int, height: int, width: int) -> Picture:
    """Cuts out a part, which must be inside the image.

    Objects whose box is completely outside the part are dropped; joints outside have visibility 0.

    Raises:
        ValueError: If there are `mask_crops`: those of cut boxes would be wrong.
    """
    if picture.mask_crops is not None:
        raise ValueError("pictures are cut before their masks are cropped to boxes")
    rows, columns = slice(top, top + height), slice(left, left + width)
    cut = dataclasses.replace(
        shift_objects(picture, -left, -top),
        image=picture.image[rows, columns],
        masks=None if picture.masks is None else picture.masks[:, rows, columns],
        label_map=None if picture.label_map is None else picture.label_map[rows, columns],
    )
    return clip_objects(cut)


def pad(
    picture: Picture,
    top: int,
    left: int,
    size: Size,
    fill: tuple[int, int, int],
    ignore_label: int,
) -> Picture:
    """Puts the picture into a larger one.

    Args:
        picture: What to pad.
        top: Rows above it.
        left: Columns to the left of it.
        size: Height and width of the result.
        fill: Colour outside the image.
        ignore_label: Label outside the image.
    """
    height, width = picture.size
    place = (slice(top, top + height), slice(left, left + width))
    image = np.full((*size, 3), fill, np.uint8)
    image[place] = picture.image
    label_map = masks = None
    if picture.label_map is not None:
        label_map = np.full(size, ignore_label, np.uint8)
        label_map[place] = picture.label_map
    if picture.masks is not None:
        masks = np.zeros((len(picture.masks), *size), bool)
        masks[:, *place] = picture.masks
    return dataclasses.replace(
        shift_objects(picture, left, top), image=image, masks=masks, label_map=label_map
    )


def letterbox_picture(picture: Picture, canvas: Size) -> Picture:
    """The picture, as large as fits, in the middle of a grey one of (height, width)."""
    (inner,), (offset,) = letterbox_frames(np.array([picture.size]), canvas)
    (height, width), (top, left) = inner.tolist(), offset.tolist()
    image = corner_resize(picture.image, (height, width))
    resized = resize_picture(picture, (height, width), image=image)
    return pad(resized, top, left, canvas, (GREY, GREY, GREY), IGNORE_LABEL)


def random_crop(picture: Picture, sides: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Cuts out a part whose height and width are drawn between the two values of `sides`.

    The part is never larger than the image. A side of the image that is shorter than the first
    value is not cut.
    """
    (top, height), (left, width) = (_random_span(have, sides, rng) for have in picture.size)
    return crop(picture, top, left, height, width)


def _random_span(have: int, sides: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Start and length of a part of 0..have."""
    length = int(rng.integers(min(sides[0], have), min(sides[1], have) + 1))
    return int(rng.integers(have - length + 1)), length


def fit_size(size: Size, short_side: int, long_side: int) -> Size:
    """The size in which the shorter side is `short_side`, or less to keep within `long_side`.

    Rounds as DETR's transforms do, towards zero, but the longer side may be one pixel too long.
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
    """The size; if it does not fit into the box, the largest of the same aspect that does."""
    ratio = min(box[0] / size[0], box[1] / size[1], 1.0)
    return max(1, min(round(size[0] * ratio), box[0])), max(1, min(round(size[1] * ratio), box[1]))
