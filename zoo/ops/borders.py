"""Loss weights for the narrow background between neighbouring objects."""

import cv2
import numpy as np
from jaxtyping import Float32, Integer


def border_weights(
    instances: Integer[np.ndarray, "h w"], w0: float = 10.0, sigma: float = 5.0
) -> Float32[np.ndarray, "h w"]:
    """The weights that the U-Net paper adds to background pixels between neighbouring objects.

    ``w0 * exp(-(d1 + d2)**2 / (2 * sigma**2))``, where d1 and d2 are the distances in pixels to the
    nearest and the second nearest object (arXiv 1505.04597, equation 2). The weight is 0 on
    objects, and everywhere in an image with fewer than two objects.

    Args:
        instances: Number of the object that each pixel belongs to; 0 is background.
        w0: Weight where two objects touch.
        sigma: A gap of this width, in pixels, gets the weight w0 * exp(-1 / 2).
    """
    nearest = np.full((2, *instances.shape), np.inf, np.float32)
    for number in np.unique(instances[instances > 0]):
        outside = (instances != number).astype(np.uint8)
        distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        nearest = np.sort(np.concatenate([nearest, distance[None]]), axis=0)[:2]
    weights = w0 * np.exp(-(nearest.sum(axis=0) ** 2) / (2 * sigma**2))
    return np.where(instances == 0, weights, 0).astype(np.float32)
