"""Image transforms: numpy on the host, and the normalisation on the device.

On the host an image is uint8 [h w 3] and stays so: a batch travels to the device as bytes.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from zoo.types import Interpolation

HostImage = UInt8[np.ndarray, "h w 3"]

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def normalize(
    images: UInt8[Array, "b h w c"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "b h w c"]:
    """``(images / 255 - mean) / std`` in float32, on the device; mean and std one a channel."""
    scale = 1 / (255 * np.asarray(std, np.float32))
    offset = np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    return images.astype(jnp.float32) * scale - offset


def resize(image: HostImage, size: tuple[int, int], interpolation: Interpolation) -> HostImage:
    """Resizes to (height, width) with Pillow's antialiased filters, as torchvision does."""
    height, width = size
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), _FILTERS[interpolation]))
