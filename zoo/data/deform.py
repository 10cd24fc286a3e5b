"""Transforms of an image and its label map for training: scaling, elastic deformation, cropping.

As those of `zoo.data.joint`: each takes a `Picture`, of which they change the image and the label
map, and returns another.
"""

import dataclasses

import cv2
import numpy as np

from zoo.data.joint import Picture, Size, resize_picture


def random_scale(picture: Picture, scale: tuple[float, float], rng: np.random.Generator) -> Picture:
    """Resizes by a factor that is uniform between the two."""
    factor = rng.uniform(*scale)
    height, width = (max(1, round(side * factor)) for side in picture.size)
    return resize_picture(picture, (height, width), fast=True)


def elastic(picture: Picture, std: float, rng: np.random.Generator) -> Picture:
    """The U-Net paper's deformation (arXiv 1505.04597, section 3.1).

    Displacements are drawn on a coarse 3 x 3 grid, normal with a standard deviation of `std`
    pixels, and interpolated bicubically. What comes from outside the image is mirrored.
    """
    height, width = picture.size
    coarse = rng.normal(0, std, (3, 3, 2)).astype(np.float32)
    moves = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    x = moves[..., 0] + np.arange(width, dtype=np.float32)
    y = moves[..., 1] + np.arange(height, dtype=np.float32)[:, None]

    def moved(pixels: np.ndarray, interpolation: int) -> np.ndarray:
        pixels = np.ascontiguousarray(pixels)
        return cv2.remap(pixels, x, y, interpolation, borderMode=cv2.BORDER_REFLECT_101)

    image = moved(picture.image, cv2.INTER_LINEAR)
    labels = picture.label_map
    labels = None if labels is None else moved(labels, cv2.INTER_NEAREST)
    return dataclasses.replace(picture, image=image, label_map=labels)


def mirror(picture: Picture, margin: int) -> Picture:
    """Mirrors image and label map around their borders, `margin` pixels wide on each side."""
    sides = [(margin, margin)] * 2
    labels = picture.label_map
    return dataclasses.replace(
        picture,
        image=np.pad(picture.image, [*sides, (0, 0)], mode="reflect"),
        label_map=None if labels is None else np.pad(labels, sides, mode="reflect"),
    )


def random_place(
    picture: Picture,
    size: Size,
    fill: tuple[int, int, int],
    ignore_label: int,
    rng: np.random.Generator,
) -> Picture:
    """A random part of (height, width); an image that is smaller lies at a random place in it.

    Args:
        picture: An image and its label map.
        size: Height and width of the result.
        fill: Colour beyond the image.
        ignore_label: Label beyond it.
        rng: Draws the place.
    """
    here, there = [], []
    for have, want in zip(picture.size, size, strict=True):
        start = int(rng.integers(abs(have - want) + 1))
        inside, whole = slice(start, start + min(have, want)), slice(None)
        here.append(inside if have > want else whole)
        there.append(inside if have < want else whole)
    image = np.full((*size, 3), fill, np.uint8)
    image[tuple(there)] = picture.image[tuple(here)]
    labels = None
    if picture.label_map is not None:
        labels = np.full(size, ignore_label, np.uint8)
        labels[tuple(there)] = picture.label_map[tuple(here)]
    return dataclasses.replace(picture, image=image, label_map=labels)
