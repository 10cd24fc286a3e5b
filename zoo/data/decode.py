"""Encoded images to pixels: the right ones or a `DataError`, never garbage.

JPEGs go through simplejpeg (libjpeg-turbo), strictly: unlike Pillow and OpenCV it reports damage
inside the data. Everything else, and JPEGs in CMYK, goes through Pillow.
"""

import io

import numpy as np
import simplejpeg
from jaxtyping import Integer, UInt8
from PIL import Image, UnidentifiedImageError

from zoo.data.errors import DataError

_ORIENTATION = 0x0112  # EXIF's tag


def decode_image(
    data: bytes, name: str, *, min_side: int = 0, upright: bool = True
) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image in any format that Pillow reads, whatever its name's ending.

    Gray, palette and CMYK images become RGB as Pillow's ``convert("RGB")`` makes them, 16-bit gray
    by its upper byte; alpha is dropped; EXIF's orientation is applied (torchvision leaves it).

    Args:
        data: The encoded bytes.
        name: What to call the image in errors, such as its path.
        min_side: If positive, a large JPEG may come out at 4/8 to 1/8 of its size, which is much
            faster, as long as each side keeps this many pixels.
        upright: Apply EXIF's orientation; without, pixels are as they are stored.

    Raises:
        DataError: If the data is empty, truncated, damaged or not an image.
    """
    if not data:
        raise DataError(f"{name}: the image is empty (0 bytes)")
    try:
        if not data.startswith(b"\xff\xd8"):  # is_jpeg() wants the end in place too
            return _decode_with_pillow(data, upright)
        space = simplejpeg.decode_jpeg_header(data)[2]
        if space in ("CMYK", "YCCK"):
            simplejpeg.decode_jpeg(data, "CMYK")  # Pillow, which converts it, overlooks damage
            return _decode_with_pillow(data, upright)
        pixels = simplejpeg.decode_jpeg(
            data, min_height=min_side, min_width=min_side, min_factor=2 if min_side else 1
        )
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image of a known format") from error
    except Exception as error:  # decoders raise nearly anything on damaged data
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: not a readable image: {reason}") from error
    if not upright or b"Exif\0\0" not in data:
        return pixels
    return _upright(pixels, Image.open(io.BytesIO(data)).getexif().get(_ORIENTATION, 1))


def image_size(data: bytes, name: str, *, upright: bool = True) -> tuple[int, int]:
    """Height and width that `decode_image` gives, from the image's header.

    Raises:
        DataError: If the header cannot be read.
    """
    try:
        image = Image.open(io.BytesIO(data))
        orientation = image.getexif().get(_ORIENTATION, 1) if upright else 1
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image of a known format") from error
    except Exception as error:  # decoders raise nearly anything on damaged data
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: not a readable image: {reason}") from error
    return image.size if orientation in range(5, 9) else (image.height, image.width)


def _decode_with_pillow(data: bytes, upright: bool) -> UInt8[np.ndarray, "h w 3"]:
    image = Image.open(io.BytesIO(data))
    image.load()  # before the EXIF, which a PNG may have at its end
    orientation = image.getexif().get(_ORIENTATION, 1) if upright else 1
    if image.mode.startswith("I;16"):
        pixels = np.stack([(np.asarray(image) >> 8).astype(np.uint8)] * 3, axis=-1)
    elif image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range; use 8 or 16 bits")
    elif "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA").convert("RGB"))
    else:
        pixels = np.asarray(image.convert("RGB"))
    return _upright(pixels, orientation)


def _upright(pixels: np.ndarray, orientation: int) -> UInt8[np.ndarray, "h w 3"]:
    """Undoes the mirroring and turning that EXIF's orientation, 1..8, tells of."""
    if orientation in range(5, 9):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def decode_label_map(data: bytes, name: str) -> Integer[np.ndarray, "h w"]:
    """Decodes an image whose pixels are labels: one channel, or a palette, of which the indices.

    Raises:
        DataError: If the data is damaged, has several channels, or is not of whole numbers.
    """
    try:
        image = Image.open(io.BytesIO(data))
        labels = np.asarray(image)
    except Exception as error:  # decoders raise nearly anything on damaged data
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: not a readable image: {reason}") from error
    if labels.ndim != 2 or labels.dtype.kind not in "biu":
        raise DataError(
            f"{name}: a mask has one channel of whole numbers, or a palette; this one is"
            f" {image.mode}"
        )
    return labels.astype(np.uint8) if labels.dtype == bool else labels
