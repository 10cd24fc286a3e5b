"""Encoded images to pixels."""

import io

import numpy as np
from PIL import Image


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decodes."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
