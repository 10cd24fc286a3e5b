"""What `zoo.predict` takes as an image."""

import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from zoo.data.decode import decode_image
from zoo.types import InputError

HostImage = UInt8[np.ndarray, "h w 3"]
Source = str | os.PathLike[str] | BinaryIO | Image.Image | HostImage | UInt8[jax.Array, "h w 3"]

_URL = re.compile(r"(?!file:)[a-zA-Z][a-zA-Z0-9+.-]+:/|data:")  # a Path has one slash
_ALLOWED = (
    "a path, a file opened in binary mode, a PIL image, a uint8 array [h w 3] of numpy or JAX, or a"
    " list of these"
)


def local_image(image: Any) -> Path | Image.Image | HostImage:
    """An image of any kind that `zoo.predict` takes, as a path, a PIL image or an array.

    Raises:
        InputError: If it is something else or cannot be read; the message says what is allowed.
    """
    if isinstance(image, str | os.PathLike):
        text = os.fspath(image)
        if isinstance(text, bytes) or _URL.match(text):
            raise InputError(
                f"{text!r:.200}: only local files are read: download it and give its path"
            )
        if Path(text).expanduser().is_dir():
            raise InputError(f"{text}: it is a folder; give a list of the images in it")
        return Path(text)
    if hasattr(image, "read"):
        return _read(image)
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray | jax.Array):
        return _array(np.asarray(image))
    raise InputError(f"an image is {_ALLOWED}, not {type(image).__name__}")


def _read(file: Any) -> HostImage:
    """Decodes the image in a file object, from its position to its end."""
    name = str(getattr(file, "name", "the file object"))
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # a text that is not UTF-8, or a closed file
        raise InputError(f"{name}: cannot be read: {error}") from error
    if not isinstance(data, bytes):
        raise InputError(f"{name}: opened as text; open it in binary mode, 'rb'")
    return decode_image(data, name)


def _array(image: np.ndarray) -> HostImage:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        hint = ""
        if image.ndim == 4:
            hint = "; give a list of images for a batch"
        elif np.issubdtype(image.dtype, np.floating):
            hint = "; pixels are 0..255, neither scaled nor normalised"
        raise InputError(f"an image is uint8 [h w 3], not {image.dtype} {list(image.shape)}{hint}")
    if image.size == 0:
        raise InputError(f"an image has at least one pixel, not the shape {list(image.shape)}")
    return image
