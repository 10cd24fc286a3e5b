"""Transforms of a picture for training: scaling, elastic deformation, mirrored borders, cropping.

As in `zoo.data.augment.picture`, each function takes a `Picture` and returns another.
"""

import dataclasses

import cv2
import numpy as np
from jaxtyping import UInt8

from zoo.data.augment.picture import Picture, Size, crop, pad, resize_picture, shift_objects


def random_scale(picture: Picture, scale: tuple[float, float], rng: np.random.Generator) -> Picture:
    """Resizes by a random factor, uniform between the two values of `scale`."""
    factor = rng.uniform(*scale)
    height, width = (max(1, round(side * factor)) for side in picture.size)
    return resize_picture(picture, (height, width), fast=True)


def elastic(picture: Picture, std: float, rng: np.random.Generator) -> Picture:
    """The U-Net paper's deformation (arXiv 1505.04597, section 3.1).

    Displacements are drawn on a coarse 3 x 3 grid, normal with a standard deviation of `std`
    pixels, and interpolated bicubically. Pixels from outside the image are mirrored ones.

    Raises:
        ValueError: If there are objects: their boxes and keypoints would not be moved.
    """
    if len(picture.boxes):
        raise ValueError("an elastic deformation moves images and label maps, not objects")
    height, width = picture.size
    coarse = rng.normal(0, std, (3, 3, 2)).astype(np.float32)
    moves = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    x = moves[..., 0] + np.arange(width, dtype=np.float32)
    y = moves[..., 1] + np.arange(height, dtype=np.float32)[:, None]

    def moved(
        pixels: UInt8[np.ndarray, "h w ..."], interpolation: int
    ) -> UInt8[np.ndarray, "h w ..."]:
        pixels = np.ascontiguousarray(pixels)
        return cv2.remap(pixels, x, y, interpolation, borderMode=cv2.BORDER_REFLECT_101)

    image = moved(picture.image, cv2.INTER_LINEAR)
    labels = picture.label_map
    labels = None if labels is None else moved(labels, cv2.INTER_NEAREST)
    return dataclasses.replace(picture, image=image, label_map=labels)


def mirror(picture: Picture, margin: int) -> Picture:
    """Adds a border of `margin` mirrored pixels on each side.

    Boxes, masks and keypoints are shifted, but not mirrored into the border.
    """
    sides = [(margin, margin)] * 2
    labels, masks = picture.label_map, picture.masks
    return dataclasses.replace(
        shift_objects(picture, margin, margin),
        image=np.pad(picture.image, [*sides, (0, 0)], mode="reflect"),
        masks=None if masks is None else np.pad(masks, [(0, 0), *sides]),
        label_map=None if labels is None else np.pad(labels, sides, mode="reflect"),
    )


def random_place(
    picture: Picture,
    size: Size,
    fill: tuple[int, int, int],
    ignore_label: int,
    rng: np.random.Generator,
) -> Picture:
    """Cuts out a random part of `size`; a smaller image is put at a random place in it.

    Args:
        picture: What to crop and pad.
        size: Height and width of the result.
        fill: Colour outside the image.
        ignore_label: Label outside the image.
        rng: Draws the place.
    """
    (height, top), (width, left) = (
        (have, int(rng.integers(abs(have - want) + 1)))
        for have, want in zip(picture.size, size, strict=True)
    )
    cut_top, cut_left = (top if height > size[0] else 0), (left if width > size[1] else 0)
    part = crop(picture, cut_top, cut_left, min(height, size[0]), min(width, size[1]))
    return pad(part, top - cut_top, left - cut_left, size, fill, ignore_label)
