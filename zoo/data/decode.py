"""Decodes images: the result is the right pixels or a `DataError`, never wrong pixels.

JPEGs are decoded by simplejpeg (libjpeg-turbo) in its strict mode: unlike Pillow and OpenCV it
reports damage inside the data. All other formats, and JPEGs in CMYK, are decoded by Pillow. Every
reader of image files takes its pixels, its size and its orientation from here.
"""

import contextlib
import functools
import io
import struct
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import simplejpeg
from jaxtyping import Integer, UInt8
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from zoo.data.errors import DataError
from zoo.data.jpeg_end import with_clean_end

_ORIENTATION = 0x0112  # EXIF's tag
_ORIENTED = (
    b"Exif\0\0",
    b"tiff:Orientation",
)  # a JPEG with an orientation, in EXIF or XMP, has one
_INVERSE = {6: 8, 8: 6}  # the other orientations are their own inverse
_PNG = b"\x89PNG\r\n\x1a\n"
_NOT_PIXELS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # chunks of a PNG
_PNG_ORIENTATION = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")  # text that may have it
_OPENING = threading.Lock()  # held while Pillow's limit is lifted


def example_image(
    example: Mapping[str, Any], *, upright: bool = True
) -> UInt8[np.ndarray, "h w 3"]:
    """The ``image`` of a raw example, which is decoded unless it is an array.

    Args:
        example: It also has the ``name`` of the image.
        upright: As for `decode_image`.

    Raises:
        DataError: If the image cannot be decoded.
    """
    image = example["image"]
    if isinstance(image, bytes):
        return decode_image(image, example["name"], upright=upright)
    return image


def decode_image(
    data: bytes, name: str, *, min_side: int = 0, upright: bool = True
) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image in any format that Pillow reads; the ending of its name does not matter.

    Gray, palette and CMYK images are converted to RGB as by Pillow's ``convert("RGB")``; 16-bit
    gray keeps its upper byte; alpha is dropped; the orientation of EXIF, or else of XMP, is applied
    (torchvision does not apply it). A JPEG may have stray bytes before its end marker, or lack the
    marker. Any number of pixels is read, and texts of any length in a PNG.

    Args:
        data: The encoded bytes.
        name: Name of the image in errors, such as its path.
        min_side: If positive, a large JPEG may be decoded at 4/8 to 1/8 of its size, which is much
            faster; each side keeps at least this many pixels.
        upright: Whether to apply the orientation; if False, pixels stay as they are stored.

    Raises:
        DataError: If the data is empty, truncated, damaged or not an image.
    """
    if not data:
        raise DataError(f"{name}: the image is empty (0 bytes)")
    with _reading(name):
        if not data.startswith(b"\xff\xd8"):  # is_jpeg() would also check the end
            return to_rgb(_open(data), name, upright=upright)
        if simplejpeg.decode_jpeg_header(data)[2] in ("CMYK", "YCCK"):
            whole = _decode_jpeg(data, colorspace="CMYK")[0]  # Pillow reports no damage
            return to_rgb(_open(whole), name, upright=upright)
        options = {"min_height": min_side, "min_width": min_side}
        _, pixels = _decode_jpeg(data, **options, min_factor=2 if min_side else 1)
    if not upright or not any(mark in data for mark in _ORIENTED):
        return pixels
    with _reading(name):
        return _upright(pixels, _orientation(_open(data)))


def image_size(data: bytes, name: str, *, upright: bool = True) -> tuple[int, int]:
    """Height and width of the result of `decode_image`, read from the image's header.

    Raises:
        DataError: If the header cannot be read.
    """
    with _reading(name):
        image = _open(data)
        orientation = _orientation(image)
        # Of a TIFF with this tag, Pillow tells the size of the upright image.
        told_upright = isinstance(image, TiffImageFile) and _ORIENTATION in image.tag_v2
        turned = orientation in range(5, 9) and upright != told_upright
    return image.size if turned else (image.height, image.width)


def decode_label_map(data: bytes, name: str) -> Integer[np.ndarray, "h w"]:
    """Decodes an image whose pixels are labels: one channel, or the indices of a palette.

    An orientation is applied, as to the image that it belongs to.

    Raises:
        DataError: If the data is damaged, or the image has several channels or no integer pixels.
    """
    with _reading(name):
        image = _open(data)
        orientation = _load(image, upright=True)
        labels = np.asarray(image)
    if labels.ndim != 2 or labels.dtype.kind not in "biu":
        raise DataError(
            f"{name}: a mask has one channel of whole numbers, or a palette; this one is"
            f" {image.mode}"
        )
    labels = _upright(labels, orientation)
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def decode_channels(data: bytes, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes three channels of 8 bits that are not colours, such as ids; alpha is dropped.

    Raises:
        DataError: If the data is damaged, or the image has other channels.
    """
    with _reading(name):
        image = _open(data)
        _load(image, upright=False)
    if image.mode not in ("RGB", "RGBA", "P"):
        raise DataError(f"{name}: needs three channels of 8 bits; this image is {image.mode}")
    return np.asarray(image.convert("RGB"))


def to_rgb(image: Image.Image, name: str, *, upright: bool = True) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a Pillow image of any mode; see `decode_image` for how it is converted.

    Raises:
        DataError: If the pixels cannot be read, or have no known range: mode F, and mode I with
            values outside of 0..65535, or without one above 255.
    """
    with _reading(name):
        orientation = _load(image, upright)
        if image.mode == "F" or image.mode.startswith("I"):
            pixels = np.stack([_upper_byte(image)] * 3, axis=-1)
        elif "transparency" in image.info:
            pixels = np.asarray(image.convert("RGBA").convert("RGB"))
        else:
            pixels = np.asarray(image.convert("RGB"))
    return _upright(pixels, orientation)


def _upper_byte(image: Image.Image) -> UInt8[np.ndarray, "h w"]:
    values = np.asarray(image)
    sixteen_bits = image.mode.startswith("I;16") or image.format == "PPM"
    if not sixteen_bits and image.mode == "I" and values.size:
        sixteen_bits = values.min() >= 0 and 255 < values.max() < 65536
    if not sixteen_bits:
        raise ValueError(
            f"pixels of mode {image.mode}, {values.min():g} to {values.max():g}, have no known"
            " range; use 8 or 16 bits, as in the modes L and I;16"
        )
    return (values >> 8).astype(np.uint8)


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turns the errors of decoders, which are of many kinds for damaged data, into `DataError`."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image of a known format") from error
    except Exception as error:  # Pillow, OpenCV and simplejpeg raise many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: not a readable image: {reason}") from error


def _decode_jpeg(data: bytes, **options: Any) -> tuple[bytes, UInt8[np.ndarray, "h w c"]]:
    """The file, mended if only its end is damaged, and its pixels."""
    try:
        return data, simplejpeg.decode_jpeg(data, **options)
    except ValueError:
        space = options.get("colorspace", "RGB")
        whole = functools.partial(simplejpeg.decode_jpeg, colorspace=space)  # at its full size
        if (mended := with_clean_end(data, whole)) is None:
            raise
        return mended, simplejpeg.decode_jpeg(mended, **options)


def _open(data: bytes) -> Image.Image:
    """Opens an image with Pillow, without its limits: see `decode_image`."""
    if data.startswith(_PNG):
        data = _without_texts(data)
    with _without_limit():
        return Image.open(io.BytesIO(data))


@contextlib.contextmanager
def _without_limit() -> Iterator[None]:
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _load(image: Image.Image, upright: bool) -> int:
    """Reads the pixels; returns the orientation that is to be applied to them, 1..8.

    Pillow applies a TIFF's own orientation when it reads the pixels, so this is then its inverse
    if the image is wanted as it is stored.
    """
    stored = _orientation(image) if isinstance(image, TiffImageFile) else 1
    if isinstance(image, TiffImageFile):
        with _without_limit():
            image.load_prepare()  # checks the limit again, and needs no time
    image.load()  # before reading the EXIF, which a PNG may have at its end
    if upright:
        return _orientation(image)
    return _INVERSE.get(stored, stored)


def _without_texts(data: bytes) -> bytes:
    """A PNG without colour profile and texts, except those that may have an orientation."""
    kept, start, at = [], 0, len(_PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind in _NOT_PIXELS and not data.startswith(_PNG_ORIENTATION, at + 8):
            kept.append(data[start:at])
            start = end
        at = end
    return b"".join([*kept, data[start:]]) if kept else data


def _orientation(image: Image.Image) -> int:
    """The orientation, 1..8, of EXIF, or else of XMP; 1 if there is none."""
    return image.getexif().get(_ORIENTATION, 1)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Transposes and mirrors pixels ``[rows columns ...]`` according to an orientation, 1..8."""
    if orientation in range(5, 9):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
