"""Image transforms: numpy on the host, and the normalisation on the device.

On the host an image is uint8 [h w 3], and a batch is moved to the device as bytes. Evaluation
resizes with Pillow's filters and rounds as torchvision and timm do. The training crop resizes with
OpenCV, which is several times as fast: if it shrinks both sides to a half or less, it averages
pixels, and otherwise it interpolates without antialiasing, as big_vision always does.
"""

import math

import cv2
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8
from PIL import Image

from zoo.ops.letterbox import letterbox_frames
from zoo.types import CropMode, InputError, Interpolation

Size = tuple[int, int]  # height, width
GREY = 128  # around a letterboxed image
HostImage = UInt8[np.ndarray, "h w 3"]

PIL_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_CV2_FILTERS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


def normalize(
    images: UInt8[Array, "b h w c"],
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> Float[Array, "b h w c"]:
    """``(images / 255 - mean) / std`` in float32, on the device; mean and std for each channel.

    Raises:
        InputError: If mean or std is None, which means the model's own values.
    """
    if mean is None or std is None:
        raise InputError("data.mean or data.std is none: take it from zoo.preprocessing(MODEL)")
    return (images.astype(jnp.float32) / 255 - jnp.asarray(mean)) / jnp.asarray(std)


def valid_pixels(
    sizes: Int[Array, "b 2"], canvas: tuple[int, int]
) -> Bool[Array, "b height width"]:
    """True for the pixels of a padded image, which fills the top left of the canvas."""
    rows, columns = (jnp.arange(side) for side in canvas)
    return (rows[:, None] < sizes[:, :1, None]) & (columns < sizes[:, 1:, None])


def resize(image: HostImage, size: tuple[int, int], interpolation: Interpolation) -> HostImage:
    """Resizes to (height, width) with Pillow's antialiased filters, as torchvision does."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), PIL_FILTERS[interpolation]))


def fast_resize(image: HostImage, size: tuple[int, int], interpolation: Interpolation) -> HostImage:
    """Resizes to (height, width) with OpenCV, as training does; see the module's docstring."""
    averages = image.shape[0] >= 2 * size[0] and image.shape[1] >= 2 * size[1]
    how = cv2.INTER_AREA if averages else _CV2_FILTERS[interpolation]
    return cv2.resize(image, (size[1], size[0]), interpolation=how)


def letterbox(image: HostImage, canvas: Size) -> HostImage:
    """The image, as large as fits, in the middle of a grey one of (height, width), as in darknet.

    Values are rounded to whole numbers, the grey is 128; in darknet they are fractions, and the
    grey is 127.5. See `zoo.ops.letterbox` for the place.
    """
    (inner,), (offset,) = letterbox_frames(np.array([image.shape[:2]]), canvas)
    (height, width), (top, left) = inner.tolist(), offset.tolist()
    framed = np.full((*canvas, 3), GREY, np.uint8)
    framed[top : top + height, left : left + width] = corner_resize(image, (height, width))
    return framed


def corner_resize(image: HostImage, size: Size) -> HostImage:
    """Resizes to (height, width) as darknet: bilinear, the centres of the corner pixels kept."""
    if image.shape[:2] == size:
        return image
    found = image.astype(np.float32)
    for axis, wanted in ((1, size[1]), (0, size[0])):
        have = found.shape[axis]
        # With a side of 1 darknet takes the last pixel.
        places = np.arange(wanted, dtype=np.float32) * np.float32((have - 1) / max(wanted - 1, 1))
        places = places if wanted > 1 else np.full(1, have - 1, np.float32)
        first = np.minimum(places.astype(np.int64), have - 1)
        second = np.minimum(first + 1, have - 1)
        share = np.expand_dims(places - first, (1, 2) if axis == 0 else (0, 2)).astype(np.float32)
        low, high = found.take(first, axis), found.take(second, axis)
        found = low + (high - low) * share
    return np.rint(found).astype(np.uint8)


def center_crop(image: HostImage, size: tuple[int, int]) -> HostImage:
    """The central part of (height, width), padded with black where the image is smaller.

    Rounds as torchvision does: half a pixel to the even number.
    """
    missing = [max(0, wanted - have) for wanted, have in zip(size, image.shape[:2], strict=True)]
    if any(missing):
        image = np.pad(image, [*((gap // 2, (gap + 1) // 2) for gap in missing), (0, 0)])
    top, left = (round((image.shape[axis] - size[axis]) / 2) for axis in (0, 1))
    return image[top : top + size[0], left : left + size[1]]


def resize_and_crop(
    image: HostImage,
    size: tuple[int, int],
    crop_fraction: float,
    interpolation: Interpolation,
    crop_mode: CropMode = "center",
) -> HostImage:
    """The same transform as in timm's evaluation: resize, then centre crop.

    Args:
        image: An image of any size.
        size: Height and width of the result.
        crop_fraction: Share of the resized image's shorter side that the crop keeps, in 0..1.
        interpolation: Filter of the resize.
        crop_mode: ``center`` keeps the aspect in the resize; ``squash`` resizes to `size`
            divided by `crop_fraction` and does not keep the aspect; ``letterbox``: see there.
    """
    height, width = image.shape[:2]
    target = (math.floor(size[0] / crop_fraction), math.floor(size[1] / crop_fraction))
    if crop_mode == "letterbox":
        return letterbox(image, size)
    if crop_mode == "squash":
        resized = target
    elif target[0] == target[1]:
        shorter = min(height, width)
        resized = (int(target[0] * height / shorter), int(target[0] * width / shorter))
    else:
        ratio = min(height / target[0], width / target[1])
        resized = (round(height / ratio), round(width / ratio))
    return center_crop(resize(image, resized, interpolation), size)


def random_box(
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[int, int, int, int]:
    """Draws a box as torchvision's ``RandomResizedCrop`` does: top, left, height, width.

    The result is in pixels. The share of the area is uniform in `scale`, the aspect (width over
    height) log-uniform in `ratio`. If ten boxes do not fit into the image, the result is the
    largest central box with an aspect in `ratio`.
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w = min(width, round(height * ratio[1]))
    h = min(height, round(width / ratio[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def random_resized_crop(
    image: HostImage,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    interpolation: Interpolation,
    rng: np.random.Generator,
) -> HostImage:
    """A random box of the image (see `random_box`), resized to (height, width)."""
    top, left, h, w = random_box(image.shape[0], image.shape[1], scale, ratio, rng)
    return fast_resize(image[top : top + h, left : left + w], size, interpolation)


def random_flip(image: HostImage, rng: np.random.Generator) -> HostImage:
    """Mirrors left and right with probability 1/2."""
    return image[:, ::-1] if rng.random() < 0.5 else image


def random_erase(
    image: HostImage,
    probability: float,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    rng: np.random.Generator,
) -> HostImage:
    """Random erasing (arXiv 1708.04896) as in timm's mode ``pixel``.

    A box of 2% to 33% of the area, with an aspect of 0.3 to 3.3, is filled with noise, which is
    standard normal after normalisation. Unlike timm's, the noise is clipped to bytes, 0..255.
    """
    if rng.random() >= probability:
        return image
    height, width = image.shape[:2]
    for _ in range(10):
        area = height * width * rng.uniform(0.02, 1 / 3)
        aspect = math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h < height and w < width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            noise = np.asarray(mean) + np.asarray(std) * rng.standard_normal((h, w, 3))
            image = image.copy()
            image[top : top + h, left : left + w] = np.clip(np.rint(255 * noise), 0, 255)
            break
    return image
